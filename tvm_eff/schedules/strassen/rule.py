"""Pointwise convolution by Strassen's algorithm: an eighth fewer multiplications.

The seven products are computed as in :mod:`tvm_eff.schedules.cpu.pointwise`, from packed
operands; the input is packed while its quarters are summed, and the four quarters of the
result are summed together, so that each product is loaded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import fusion
from tvm_eff.schedules.cpu.contraction import multiplies_by_lane, steps
from tvm_eff.schedules.cpu.pointwise import load_vectors, register_tiles
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Alternative, Candidate, sample
from tvm_eff.schedules.strassen import rewrite as algorithm
from tvm_eff.schedules.strassen.rewrite import BLOCK, Pointwise, match
from tvm_eff.targets import Target

MIN_CHANNELS = 128
"""The minimum of input and output channels: with fewer, the additions outweigh the savings."""


@dataclass(frozen=True)
class SummedPacking(Packing):
    """Sum a weight's quarters, then pack the sums.

    Attributes
    ----------
    quarter_block
        The output channels of a quarter are a multiple of this.
    """

    quarter_block: int

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Return `weight`, [output channel, 1, 1, input channel], transformed and packed."""
        return super().pack(algorithm.transform_weight(weight, self.quarter_block))


class Strassen:
    """The extra rule for large 1x1 convolution of stride 1 on 64-bit ARM."""

    name = "strassen"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the register tiles of the products, lowest estimated cost first."""
        work = match(func, MIN_CHANNELS)
        if work is None or not multiplies_by_lane(target) or int(work.source.shape[0]) != 1:
            return []
        depth, channels = int(work.source.shape[3]) // 2, work.half_channels(BLOCK)
        unrolls = steps(depth)
        if not unrolls:
            return []
        return [
            Candidate.of(
                self.name,
                {
                    "rows": rows,
                    "columns": columns,
                    "lanes": target.hardware.lanes,
                    "unroll": unrolls[0],
                },
            )
            for rows, columns in register_tiles(work.half(), channels, target)[:2]
        ]

    def alternatives(self, func: PrimFunc) -> list[Alternative]:
        """Return the equivalent function that the rule schedules, if it matches."""
        work = match(func, MIN_CHANNELS)
        return [] if work is None else [alternative(self.name, func, work, BLOCK)]

    def rewrite(self, func: PrimFunc, candidate: Candidate) -> PrimFunc:
        """Return the function with its convolution computed by the algorithm."""
        work = match(func, MIN_CHANNELS)
        assert work is not None, "the workload was matched when the candidate was made"
        return algorithm.rewrite(func, work, BLOCK)

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        work = match(func, MIN_CHANNELS)
        if work is None:
            return []
        return [SummedPacking(work.weight_parameter, 0, (1, 2), candidate["columns"], BLOCK)]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``, the result of :meth:`rewrite`."""
        product = sch.get_sblock(algorithm.PRODUCT)
        pack_weight(sch, product, Packing(0, 0, (1, 2), candidate["columns"]))
        rows = candidate["rows"]
        sch.transform_layout(
            product,
            ("read", 0),
            lambda i, p, k: [i, p // rows, k, p % rows],
            assume_injective_transform=True,
        )
        sum_output(sch, product, candidate["lanes"])
        _sum_input(sch, rows, candidate["lanes"])
        _multiply(sch, product, candidate, target)


def alternative(
    name: str, func: PrimFunc, work: Pointwise, block: int, chunks: int = 1
) -> Alternative:
    """Return `func` with its convolution computed by the algorithm; see its `rewrite`."""
    weight = func.params[work.weight_parameter]
    shape, dtype = [int(n) for n in weight.shape], str(weight.dtype)
    return Alternative(
        name,
        algorithm.rewrite(func, work, block, chunks),
        work.weight_parameter,
        algorithm.weight_function(shape, dtype, block),
    )


def pack_weight(sch: Schedule, product: Any, packing: Packing) -> None:
    """Make the products read their weights from a packed copy."""
    copy = sch.cache_read(product, 1, "global")
    sch.transform_layout(product, ("read", 1), packing.index)
    sch.annotate(copy, "meta_schedule.layout_rewrite_preproc", True)


def sum_output(sch: Schedule, product: Any, lanes: int, row_blocks: int | None = None) -> Any:
    """Compute four elements of the result, one per quarter, from the same products.

    Parameters
    ----------
    sch
        The schedule.
    product
        The block (BlockRV) of the products.
    lanes
        Elements of a vector.
    row_blocks
        The number of row blocks (int or ExprRV); by default each position is one.

    Returns
    -------
    LoopRV
        The parallel loop over row blocks.
    """
    *_, channels = (int(n) for n in sch.get(product).writes[0].source.shape)
    sch.compute_inline(sch.get_sblock(algorithm.OUTPUT))
    result = sch.get_sblock(algorithm.RESULT)
    last = fusion.inline_epilogue(sch, result)
    if last is None:
        last = result
    else:
        sch.compute_inline(result)
    _, height, width, _ = (int(sch.get(loop).extent) for loop in sch.get_loops(last))
    sch.transform_block_layout(last, lambda n, y, x, f: [(n * height + y) * width + x, f])
    p, f = sch.get_loops(last)
    *parts, p, p_half = sch.split(p, [None, 2] if row_blocks is None else [row_blocks, None, 2])
    f_half, f = sch.split(f, [2, channels])
    vectors, vector = sch.split(f, [None, lanes])
    sch.reorder(*parts, p, vectors, p_half, f_half, vector)
    sch.unroll(p_half)
    sch.unroll(f_half)
    sch.vectorize(vector)
    for loop in (p, vectors):
        # Where halves differ, what only one of them has is partitioned off.
        sch.annotate(loop, "pragma_loop_partition_hint", 1)
    outermost = [*parts, p][0]
    sch.parallel(outermost)
    return outermost


def _sum_input(sch: Schedule, rows: int, lanes: int) -> None:
    """Sum the quarters of the input for all products, and pack the sums."""
    i, p, k = sch.get_loops(sch.get_sblock(algorithm.INPUT))
    tiles, p = sch.split(p, [None, rows])
    p_outer, p = sch.split(p, [None, lanes])
    k, vector = sch.split(k, [None, lanes])
    sch.reorder(tiles, p_outer, k, i, p, vector)
    for loop in (p_outer, i, p):
        sch.unroll(loop)
    sch.vectorize(vector)
    sch.annotate(tiles, "pragma_loop_partition_hint", 1)
    sch.parallel(tiles)


def _multiply(sch: Schedule, product: Any, candidate: Candidate, target: Target) -> None:
    """Compute the products in register tiles."""
    lanes = candidate["lanes"]
    rows = sample(sch, [4, 8], candidate["rows"])
    columns = sample(sch, [target.hardware.lanes], candidate["columns"])
    unroll = sample(sch, [1, 4], candidate["unroll"])
    written = sch.cache_write(product, 0, "global")
    i, p, f, depth = sch.get_loops(product)
    p_outer, p_inner = sch.split(p, [None, rows])
    f_outer, f_inner = sch.split(f, [None, columns])
    f_vectors, f_lanes = sch.split(f_inner, [None, lanes])
    k_outer, k_inner = sch.split(depth, [None, unroll])
    sch.reorder(i, f_outer, p_outer, k_outer, k_inner, p_inner, f_vectors, f_lanes)
    load_vectors(sch, product, 0, k_outer, lanes)
    sch.reverse_compute_at(written, p_outer, preserve_unit_loops=True)
    fusion.vectorize_tile(sch, fusion.loops_below(sch, written, p_outer), lanes)
    sch.vectorize(f_lanes)
    for loop in (k_inner, p_inner, f_vectors):
        sch.unroll(loop)
    sch.annotate(p_outer, "pragma_loop_partition_hint", 1)
    sch.parallel(sch.fuse(i, f_outer))
    sch.decompose_reduction(product, k_outer)

"""Convolution by Winograd's algorithm: fewer multiplications, more additions.

It computes one matrix product per element of a transformed tile, in register tiles as in
:mod:`tvm_eff.schedules.cpu.convolution`; the transforms are unrolled over a vector of
channels. A block of tile rows goes through all three steps while it is in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.passes.attributes import PREFETCH
from tvm_eff.schedules import fusion
from tvm_eff.schedules.cpu.convolution import (
    CHANNELS_OUTER,
    Nest,
    Tile,
    prefetches_weights,
    register_tile,
    tile_cost,
    tiles,
)
from tvm_eff.schedules.cpu.row_blocks import ELEMENTS_PER_CYCLE, split_into_row_blocks
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Alternative, Candidate, divisors, sample, split_vector
from tvm_eff.schedules.winograd import rewrite as algorithm
from tvm_eff.schedules.winograd.match import Convolution, match
from tvm_eff.schedules.winograd.transforms import Filter, transform_weight
from tvm_eff.targets import FLOAT32_BYTES, Target

WHOLE = 0
"""Value of the decision ``tile_rows`` for no row blocks: each step processes the whole image."""


@dataclass(frozen=True)
class TransformedPacking(Packing):
    """Transform a weight, then pack it.

    Attributes
    ----------
    filtering
        The filter that it is transformed for.
    stride
        The convolution's.
    """

    filtering: Filter
    stride: int

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Return `weight`, [output channel, row, column, input channel], transformed and packed."""
        return super().pack(transform_weight(weight, self.filtering, self.stride))


class Winograd:
    """The extra rule for convolution with small square kernels."""

    name = "winograd"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return output tiles, row blocks and register tiles, lowest estimated cost first."""
        work = match(func)
        if work is None:
            return []
        found = _choices(work, target)
        return [
            Candidate.of(
                self.name,
                {
                    "tile": choice.tile,
                    "tile_rows": choice.tile_rows,
                    "rows": choice.registers.rows,
                    "columns": choice.registers.columns,
                    "lanes": choice.registers.lanes,
                    "unroll": choice.registers.unroll,
                },
            )
            for choice in found
        ]

    def alternatives(self, func: PrimFunc) -> list[Alternative]:
        """Return the equivalent function of each output tile size, if the rule matches."""
        work = match(func)
        if work is None:
            return []
        dtype = str(func.params[work.weight_parameter].dtype)
        return [
            Alternative(
                f"{self.name}{each.tile}",
                algorithm.rewrite(func, each.tile),
                work.weight_parameter,
                algorithm.weight_function(work, each.tile, dtype),
            )
            for each in work.filters
        ]

    def rewrite(self, func: PrimFunc, candidate: Candidate) -> PrimFunc:
        """Return the function with its convolution computed by the algorithm."""
        return algorithm.rewrite(func, candidate["tile"])

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        work = match(func)
        if work is None:
            return []
        packing = TransformedPacking(
            parameter=work.weight_parameter,
            channel=0,
            order=(1, 2, 3),
            block=candidate["columns"],
            filtering=work.filtering(candidate["tile"]),
            stride=work.stride,
        )
        return [packing]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``, the result of :meth:`rewrite`, in row blocks."""
        _pack(sch, candidate)
        last = _result(sch)
        part, vectors = _split_result(sch, last, candidate, target)
        _columns(sch, vectors)
        product, written = _compute_product_at(sch, part, candidate)
        # Before the products are tiled: TVM would then compute regions of whole tiles.
        _input(sch, part if candidate["tile_rows"] else None, target)
        _multiply(sch, product, written, part, candidate, target)


@dataclass(frozen=True)
class _Choice:
    """A division of a convolution, with sizes in elements.

    Attributes
    ----------
    tile, tile_rows, registers
        The decisions.
    parts
        Number of parallel tasks.
    products
        Multiply-adds of all tasks.
    weights
        Elements of the transformed weight.
    block_elements
        Elements of transformed input and products that a task keeps live.
    cost
        Instructions per multiply-add in a register tile.
    """

    tile: int
    tile_rows: int
    registers: Tile
    parts: int
    products: int
    weights: int
    block_elements: int
    cost: float

    def cycles(self, target: Target) -> float:
        """Estimate the cycles: the products, and traffic beyond the L2 cache."""
        hardware = target.hardware
        used = min(self.parts, hardware.cores)
        rounds = -(-self.parts // used)
        work = self.products / self.parts * rounds * self.cost
        cache_elements = hardware.l2_kib * 1024 // FLOAT32_BYTES
        whole = self.tile_rows == WHOLE
        weight_reads = (
            1 if whole or self.weights + self.block_elements <= cache_elements else rounds
        )
        moved = self.weights * weight_reads + (
            2 * self.block_elements * rounds if self.block_elements > cache_elements else 0
        )
        return work / (hardware.lanes * hardware.fma_per_cycle) + moved / ELEMENTS_PER_CYCLE


def _choices(work: Convolution, target: Target) -> list[_Choice]:
    """The divisions of a convolution, lowest estimated cost first."""
    batch, height, width, channels = (int(n) for n in work.result.shape)
    depth = work.depth
    found = []
    for filtering in work.filters:
        tile = filtering.tile
        down, across = -(-height // tile), -(-width // tile)
        elements = filtering.size**2
        for tile_rows in (WHOLE, *divisors(down, down)):
            positions = (tile_rows or batch * down) * across
            for registers in tiles(positions, channels, depth, target)[:2]:
                kept = registers.columns if tile_rows == WHOLE else channels
                found.append(
                    _Choice(
                        tile,
                        tile_rows,
                        registers,
                        parts=batch * down // tile_rows
                        if tile_rows
                        else channels // registers.columns,
                        products=elements * batch * down * across * channels * depth,
                        weights=elements * channels * depth,
                        block_elements=elements * positions * (depth + kept),
                        cost=tile_cost(registers, positions, target),
                    )
                )
    return sorted(found, key=lambda choice: choice.cycles(target))


def _pack(sch: Schedule, candidate: Candidate) -> None:
    product = sch.get_sblock(algorithm.PRODUCT)
    block, order = candidate["columns"], (1, 2, 3)
    packing = Packing(parameter=0, channel=0, order=order, block=block)
    copy = sch.cache_read(product, 1, "global")
    sch.transform_layout(product, ("read", 1), packing.index)
    sch.annotate(copy, "meta_schedule.layout_rewrite_preproc", True)


def _result(sch: Schedule) -> Any:
    """Inline the output transform and the epilogue into the block that writes the result."""
    sch.compute_inline(sch.get_sblock(algorithm.OUTPUT))
    result = sch.get_sblock(algorithm.RESULT)
    last = fusion.inline_epilogue(sch, result)
    if last is None:
        return result
    sch.compute_inline(result)
    return last


def _split_result(
    sch: Schedule, last: Any, candidate: Candidate, target: Target
) -> tuple[Any, Any]:
    """Tile the loops of the block that writes the result.

    Returns
    -------
    tuple
        The parallel loop, and the one over vectors of channels in a tile.
    """
    batch, y, x, f = sch.get_loops(last)
    tile = sample(sch, [2, 4], candidate["tile"])
    tile_rows = sample(sch, [WHOLE, 1], candidate["tile_rows"])
    columns = sample(sch, [target.hardware.lanes], candidate["columns"])
    y_tiles, y_inner = sch.split(y, [None, tile])
    x_tiles, x_inner = sch.split(x, [None, tile])
    blocks, f_inner = sch.split(f, [None, columns])
    vectors, f_lanes = sch.split(f_inner, [None, candidate["lanes"]])
    tail = [vectors, y_inner, x_inner, f_lanes]
    if candidate["tile_rows"] == WHOLE:
        sch.reorder(blocks, batch, y_tiles, x_tiles, *tail)
        part = blocks
    else:
        row_blocks, y_tiles = sch.split(y_tiles, [None, tile_rows])
        sch.reorder(batch, row_blocks, y_tiles, x_tiles, blocks, *tail)
        part = sch.fuse(batch, row_blocks)
    sch.parallel(part)
    for loop in (y_inner, x_inner):
        sch.unroll(loop)
    sch.vectorize(f_lanes)
    return part, vectors


def _columns(sch: Schedule, vectors: Any) -> None:
    block = sch.get_sblock(algorithm.COLUMNS)
    sch.compute_at(block, vectors, preserve_unit_loops=True)
    _unroll_vectors(sch, fusion.loops_below(sch, block, vectors))


def _compute_product_at(sch: Schedule, part: Any, candidate: Candidate) -> tuple[Any, Any]:
    """Compute the products at the parallel loop.

    Returns
    -------
    tuple
        The contraction block, and its cache write.
    """
    product = sch.get_sblock(algorithm.PRODUCT)
    positions = candidate["tile_rows"] * _tiles_across(sch)
    written = (
        split_into_row_blocks(sch, product, positions)
        if positions
        else sch.cache_write(product, 0, "global")
    )
    sch.compute_at(written, part, preserve_unit_loops=True)
    sch.compute_at(product, part, preserve_unit_loops=True)
    return product, written


def _multiply(
    sch: Schedule, product: Any, written: Any, part: Any, candidate: Candidate, target: Target
) -> None:
    """Multiply in register tiles of positions by output channels."""
    *outer, p, f, depth = fusion.loops_below(sch, product, part)
    weights = sch.get(product).reads[1].source
    nest = Nest(outer=tuple(outer), position=p, channel=f, kernel=(), depth=depth)
    _, k_outer = register_tile(sch, product, written, nest, 0, candidate, CHANNELS_OUTER, target)
    if prefetches_weights(math.prod(int(n) for n in weights.shape), target):
        # [channel block][row][column][input channel][channel in block], in reading order.
        blocks = math.prod(int(n) for n in weights.shape[:3])
        passes = 1 if candidate["tile_rows"] == WHOLE else int(sch.get(part).extent)
        sch.annotate(k_outer, PREFETCH, [blocks, candidate["columns"], passes])
    sch.decompose_reduction(product, k_outer)


def _tiles_across(sch: Schedule) -> int:
    """Output tiles per row."""
    columns = sch.get(sch.get_sblock(algorithm.COLUMNS)).writes[0].source
    return int(columns.shape[4])


def _input(sch: Schedule, row_block: Any | None, target: Target) -> None:
    """Transform the input at the loop over row blocks, or all of it first if there is none."""
    block, rows = sch.get_sblock(algorithm.INPUT), sch.get_sblock(algorithm.ROWS)
    padded = sch.get_sblock(algorithm.PADDED)
    if row_block is None:
        i, j, p, c = sch.get_loops(block)
    else:
        sch.compute_at(block, row_block, preserve_unit_loops=True)
        i, j, p, c = fusion.loops_below(sch, block, row_block)
    lanes = split_vector(int(sch.get(c).extent), target.hardware.lanes)
    vectors, c_lanes = sch.split(c, [None, lanes])
    sch.reorder(p, vectors, i, j, c_lanes)
    sch.compute_at(rows, vectors, preserve_unit_loops=True)
    _unroll_vectors(sch, [i, j, c_lanes])
    _unroll_vectors(sch, fusion.loops_below(sch, rows, vectors))
    if row_block is None:
        sch.parallel(p)
        fusion.schedule_elementwise(sch, padded, target.hardware.lanes)
    else:
        sch.compute_at(padded, row_block, preserve_unit_loops=True)
        _, _, x, *_, c = fusion.loops_below(sch, padded, row_block)
        length = split_vector(int(sch.get(c).extent), target.hardware.lanes)
        _, c_lanes = sch.split(c, [None, length])
        sch.vectorize(c_lanes)
        sch.annotate(x, "pragma_loop_partition_hint", 1)


def _unroll_vectors(sch: Schedule, loops: list[Any]) -> None:
    *outer, inner = loops
    for loop in outer:
        sch.unroll(loop)
    sch.vectorize(inner)

"""Convolution of few input channels, such as a network's first layer, in register tiles.

The channels of neighbouring pixels are contiguous in memory: kernel width times channels
is one axis along which the tile's input is loaded as whole vectors, and each multiply-add
takes its factor from a vector lane. Padding is tested while loading, and only in the
border tiles, which are partitioned off.
"""

from __future__ import annotations

import math
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.cpu.contraction import (
    bias_decision,
    inline_and_pack,
    multiplies_by_lane,
    packings_of,
    reads_in_place,
    row_chunks,
    start_from_bias,
)
from tvm_eff.schedules.cpu.half_sums import half_decision, sum_in_half
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import HalfHardware, Target

MAX_DEPTH = 3
MAX_ROWS, MAX_VECTORS = 8, 6
MAX_UNROLLED = 512
"""Multiply-adds in the innermost loop: more do not fit the L1 instruction cache well."""

MAX_CANDIDATES = 4


class FirstLayer:
    """The extra rule for convolution of up to three input channels."""

    name = "first_layer"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers, lowest estimated cost first."""
        work = _match(func, target)
        if work is None:
            return []
        lanes = target.hardware.lanes
        found = [
            (rows, columns)
            for columns in divisors(work.channels, MAX_VECTORS * lanes)
            if columns % lanes == 0
            for rows in range(1, min(work.width, MAX_ROWS) + 1)
            if _fits(rows, columns, work, target)
        ]
        found.sort(key=lambda tile: _cost(tile[0], tile[1], work, target))
        bias, half = bias_decision(func, work, target), half_decision(func, work, target)
        return [
            Candidate.of(
                self.name,
                {
                    "rows": rows,
                    "columns": columns,
                    "lanes": lanes,
                    "chunks": row_chunks(work, target),
                    **bias,
                    **half,
                },
            )
            for rows, columns in found[:MAX_CANDIDATES]
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["columns"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as register tiles of positions by channels, row by row."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        work = start_from_bias(sch, work, candidate)
        main, last, paddings = inline_and_pack(sch, work, packings_of(work, candidate["columns"]))
        copy = None
        if multiplies_by_lane(target):
            copy = sch.cache_read(main, work.input_read, "global", consumer_blocks=[main])
        for padding in paddings:
            sch.compute_inline(padding)
        sum_in_half(sch, main, candidate)
        lanes = candidate["lanes"]
        loops = sch.get_loops(main)
        rows = sample(sch, [1, 2, 4, 8], candidate["rows"])
        columns = sample(sch, [target.hardware.lanes], candidate["columns"])
        batch, y, x = (loops[axis] for axis in work.positions)
        chunk, y = sch.split(y, [candidate["chunks"], None])
        x_outer, x_inner = sch.split(x, [None, rows])
        f_outer, f_inner = sch.split(loops[work.channel], [None, columns])
        f_vectors, f_lanes = sch.split(f_inner, [None, lanes])
        ky, kx, depth = (loops[axis] for axis in work.reduction)
        tile = [kx, depth, x_inner, f_vectors]
        sch.reorder(batch, chunk, y, x_outer, f_outer, ky, *tile, f_lanes)
        if copy is not None:
            _load_row(sch, copy, ky, lanes)
        sch.reverse_compute_at(last, f_outer, preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, f_outer), lanes)
        sch.vectorize(f_lanes)
        for loop in tile:
            sch.unroll(loop)
        if candidate["chunks"] > 1:
            sch.parallel(sch.fuse(batch, chunk))
        else:
            y = sch.fuse(batch, chunk, y)
            sch.parallel(y)
        for loop in (y, x_outer):
            sch.annotate(loop, "pragma_loop_partition_hint", 1)
        sch.decompose_reduction(main, ky)


def _match(func: PrimFunc, target: Target) -> Contraction | None:
    work = contraction(func)
    if work is None or work.depthwise or work.groups != 1 or not reads_in_place(target):
        return None
    if len(work.positions) != 3 or len(work.reduction) != 3 or work.depth > MAX_DEPTH:
        return None
    if work.channels % target.hardware.lanes or work.input_shape[-1] != work.depth:
        return None
    if isinstance(target.hardware, HalfHardware) and not half_decision(func, work, target):
        return None
    sch = analysis.inspect(func)
    # More than one producer is a transposed convolution, whose padding predicate is complex.
    before = sch.get_producers(sch.get_sblock(work.block))
    return work if len(before) <= 1 else None


def _inputs(rows: int, work: Contraction, target: Target) -> int:
    """Vectors that hold what a tile reads of one row of the input.

    x86 broadcasts one input value at a time, which takes one.
    """
    if not multiplies_by_lane(target):
        return 1
    kernel = work.extents[work.reduction[1]]
    stride = max(1, round((work.input_shape[2] - kernel) / max(1, work.width - 1)))
    return -(-((rows - 1) * stride + kernel) * work.depth // target.hardware.lanes)


def _fits(rows: int, columns: int, work: Contraction, target: Target) -> bool:
    vectors = columns // target.hardware.lanes
    kernel_elements = work.extents[work.reduction[1]] * work.depth
    if rows * vectors * kernel_elements > MAX_UNROLLED:
        return False
    used = rows * vectors + vectors + _inputs(rows, work, target)
    return used <= target.hardware.vector_registers


def _cost(rows: int, columns: int, work: Contraction, target: Target) -> float:
    """Estimate the instructions per useful multiply-add."""
    vectors = columns // target.hardware.lanes
    kernel_elements = work.extents[work.reduction[1]] * work.depth
    # One instruction loads two vectors.
    loads = (_inputs(rows, work, target) + kernel_elements * vectors) / 2
    whole = math.ceil(work.width / rows) * rows / work.width
    return whole * (1 + loads / (rows * vectors * kernel_elements))


def _load_row(sch: Schedule, copy: Any, loop: Any, lanes: int) -> None:
    """Load what a tile reads of one row into registers, pixels and channels fused."""
    sch.compute_at(copy, loop, preserve_unit_loops=True)
    *_, x, depth = fusion.loops_below(sch, copy, loop)
    vectors, vector = sch.split(sch.fuse(x, depth), [None, lanes])
    sch.vectorize(vector)
    sch.unroll(vectors)
    # The remainder is less than a vector.
    sch.annotate(vectors, "pragma_loop_partition_hint", 1)

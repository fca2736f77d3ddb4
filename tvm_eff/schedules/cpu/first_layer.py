"""Convolution of a few input channels, such as a network's first, in register tiles.

The channels of neighbouring pixels follow one another in memory: a row of the kernel
times the channels is one axis along which the tile's input is loaded as whole vectors,
and each multiply-add takes its factor from a lane of them. Padding is asked for while
loading, and only in the tiles at the border, which are split off.
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
    multiplies_by_lane,
    packings_of,
    reads_in_place,
    row_shares,
    separate,
    start_from_bias,
)
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import Target

MOST_DEPTH = 3
MOST_ROWS, MOST_VECTORS = 8, 6
MOST_UNROLLED = 512
"""Multiply-adds in the innermost loop: more do not fit the first instruction cache well."""

MOST_CANDIDATES = 4


class Shallow:
    """The rule for convolution of up to three channels, beside the other."""

    name = "shallow"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers, the cheapest estimate first."""
        work = _match(func, target)
        if work is None:
            return []
        lanes = target.hardware.lanes
        found = [
            (rows, columns)
            for columns in divisors(work.channels, MOST_VECTORS * lanes)
            if columns % lanes == 0
            for rows in range(1, min(work.width, MOST_ROWS) + 1)
            if _fits(rows, columns, work, target)
        ]
        found.sort(key=lambda tile: _cost(tile[0], tile[1], work, target))
        bias = bias_decision(func, work, target)
        return [
            Candidate.of(
                self.name,
                {
                    "rows": rows,
                    "columns": columns,
                    "lanes": lanes,
                    "shares": row_shares(work, target),
                    **bias,
                },
            )
            for rows, columns in found[:MOST_CANDIDATES]
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["columns"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as register tiles of positions by channels, row by row."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        work = start_from_bias(sch, work, candidate)
        main, last, paddings = separate(sch, work, candidate["columns"])
        copy = None
        if multiplies_by_lane(target):
            copy = sch.cache_read(main, work.input_read, "global", consumer_blocks=[main])
        for padding in paddings:
            sch.compute_inline(padding)
        lanes = candidate["lanes"]
        loops = sch.get_loops(main)
        rows = sample(sch, [1, 2, 4, 8], candidate["rows"])
        columns = sample(sch, [target.hardware.lanes], candidate["columns"])
        batch, y, x = (loops[axis] for axis in work.positions)
        share, y = sch.split(y, [candidate["shares"], None])
        x_outer, x_inner = sch.split(x, [None, rows])
        f_outer, f_inner = sch.split(loops[work.channel], [None, columns])
        f_vectors, f_lanes = sch.split(f_inner, [None, lanes])
        ky, kx, depth = (loops[axis] for axis in work.reduction)
        tile = [kx, depth, x_inner, f_vectors]
        sch.reorder(batch, share, y, x_outer, f_outer, ky, *tile, f_lanes)
        if copy is not None:
            _load_row(sch, copy, ky, lanes)
        sch.reverse_compute_at(last, f_outer, preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, f_outer), lanes)
        sch.vectorize(f_lanes)
        for loop in tile:
            sch.unroll(loop)
        if candidate["shares"] > 1:
            sch.parallel(sch.fuse(batch, share))
        else:
            y = sch.fuse(batch, share, y)
            sch.parallel(y)
        for loop in (y, x_outer):
            sch.annotate(loop, "pragma_loop_partition_hint", 1)
        sch.decompose_reduction(main, ky)


def _match(func: PrimFunc, target: Target) -> Contraction | None:
    work = contraction(func)
    if work is None or work.depthwise or work.groups != 1 or not reads_in_place(target):
        return None
    if len(work.positions) != 3 or len(work.reduction) != 3 or work.depth > MOST_DEPTH:
        return None
    if work.channels % target.hardware.lanes or work.input_shape[-1] != work.depth:
        return None
    sch = analysis.inspect(func)
    # More than one is a transposed convolution: whether there is padding depends on more.
    before = sch.get_producers(sch.get_sblock(work.block))
    return work if len(before) <= 1 else None


def _inputs(rows: int, work: Contraction, target: Target) -> int:
    """Vectors that hold what a tile reads of one row of the input.

    x86 multiplies by a value broadcast from memory, which takes one.
    """
    if not multiplies_by_lane(target):
        return 1
    kernel = work.extents[work.reduction[1]]
    stride = max(1, round((work.input_shape[2] - kernel) / max(1, work.width - 1)))
    return -(-((rows - 1) * stride + kernel) * work.depth // target.hardware.lanes)


def _fits(rows: int, columns: int, work: Contraction, target: Target) -> bool:
    vectors = columns // target.hardware.lanes
    taps = work.extents[work.reduction[1]] * work.depth
    if rows * vectors * taps > MOST_UNROLLED:
        return False
    used = rows * vectors + vectors + _inputs(rows, work, target)
    return used <= target.hardware.vector_registers


def _cost(rows: int, columns: int, work: Contraction, target: Target) -> float:
    """Estimate the instructions, in multiply-adds, that one useful multiply-add takes."""
    vectors = columns // target.hardware.lanes
    taps = work.extents[work.reduction[1]] * work.depth
    # Two vectors are loaded by one instruction.
    loads = (_inputs(rows, work, target) + taps * vectors) / 2
    whole = math.ceil(work.width / rows) * rows / work.width
    return whole * (1 + loads / (rows * vectors * taps))


def _load_row(sch: Schedule, copy: Any, loop: Any, lanes: int) -> None:
    """Load what a tile reads of one row, channels and pixels as one axis, into registers."""
    sch.compute_at(copy, loop, preserve_unit_loops=True)
    *_, x, depth = fusion.loops_below(sch, copy, loop)
    vectors, vector = sch.split(sch.fuse(x, depth), [None, lanes])
    sch.vectorize(vector)
    sch.unroll(vectors)
    # What is left over is less than a vector.
    sch.annotate(vectors, "pragma_loop_partition_hint", 1)

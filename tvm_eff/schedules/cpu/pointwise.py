"""Pointwise convolution as one matrix product, its input packed tile by tile.

All positions of an image are flattened into one axis, which is tiled across rows. Where a
multiply-add takes one factor from a vector lane, the input is packed as
[tile][input channel][position in tile]: a reduction step then loads the tile's input as
whole vectors, as it does the weights, and a larger tile fits the registers.
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
    start_from_bias,
    steps,
)
from tvm_eff.schedules.cpu.convolution import CHANNELS_INNER, ORDERS
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import Target

MAX_VECTORS = 4


class PackedPointwise:
    """The extra rule for 1x1 convolution of stride 1 on 64-bit ARM."""

    name = "packed_pointwise"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers, lowest estimated cost first."""
        work = _match(func, target)
        if work is None:
            return []
        lanes = target.hardware.lanes
        positions = math.prod(work.extents[axis] for axis in work.positions)
        found = register_tiles(positions, work.channels, target)
        bias = bias_decision(func, work, target)
        return [
            Candidate.of(
                self.name,
                {
                    "rows": rows,
                    "columns": columns,
                    "lanes": lanes,
                    "unroll": steps(work.depth)[0],
                    "order": order,
                    **bias,
                },
            )
            for rows, columns in found[:2]
            for order in ORDERS
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["columns"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as a matrix product of packed operands."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        work = start_from_bias(sch, work, candidate)
        main, last, _ = inline_and_pack(sch, work, packings_of(work, candidate["columns"]))
        packed = _flatten(sch, main, last, work, candidate["rows"])
        rows = sample(sch, [4, 8], candidate["rows"])
        columns = sample(sch, [target.hardware.lanes], candidate["columns"])
        unroll = sample(sch, [1, 4], candidate["unroll"])
        sample(sch, ORDERS, candidate["order"])
        lanes = candidate["lanes"]
        p, f, *kernel, depth = sch.get_loops(main)
        p_outer, p_inner = sch.split(p, [None, rows])
        f_outer, f_inner = sch.split(f, [None, columns])
        f_vectors, f_lanes = sch.split(f_inner, [None, lanes])
        k_outer, k_inner = sch.split(depth, [None, unroll])
        inner = candidate["order"] == CHANNELS_INNER
        around = [p_outer, f_outer] if inner else [f_outer, p_outer]
        sch.reorder(*around, *kernel, k_outer, k_inner, p_inner, f_vectors, f_lanes)
        load_vectors(sch, main, work.input_read, k_outer, lanes)
        _pack(sch, packed, p_outer if inner else None, candidate["rows"], lanes)
        sch.reverse_compute_at(last, around[-1], preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, around[-1]), lanes)
        sch.vectorize(f_lanes)
        for loop in (k_inner, p_inner, f_vectors):
            sch.unroll(loop)
        sch.annotate(p_outer, "pragma_loop_partition_hint", 1)
        sch.parallel(around[0])
        sch.decompose_reduction(main, kernel[0] if kernel else k_outer)


def _match(func: PrimFunc, target: Target) -> Contraction | None:
    work = contraction(func)
    if work is None or work.depthwise or work.groups != 1 or not multiplies_by_lane(target):
        return None
    positions = [work.extents[axis] for axis in work.positions]
    if len(positions) != 3 or math.prod(positions) < 4 * target.hardware.lanes:
        return None
    *kernel, depth = (work.extents[axis] for axis in work.reduction)
    if kernel != [1, 1] or not steps(depth) or work.channels % target.hardware.lanes:
        return None
    if list(work.input_shape) != [*positions, depth]:
        return None
    sch = analysis.inspect(func)
    main = sch.get_sblock(work.block)
    if str(sch.get(main).writes[0].source.dtype) == "int32":
        return None  # of bytes, which no multiply-add takes from a lane
    copies = all(analysis.is_identity_copy(sch.get(each)) for each in sch.get_producers(main))
    return work if copies else None


def register_tiles(positions: int, channels: int, target: Target) -> list[tuple[int, int]]:
    """Return tiles of positions by channels that fit the registers, lowest cost first."""
    lanes = target.hardware.lanes
    found = [
        (rows, columns)
        for columns in divisors(channels, MAX_VECTORS * lanes)
        if columns % lanes == 0
        for rows in range(lanes, MAX_VECTORS * lanes + 1, lanes)
        if _registers(rows, columns, target) <= target.hardware.vector_registers
    ]
    return sorted(found, key=lambda tile: _cost(tile[0], tile[1], positions, lanes))


def _registers(rows: int, columns: int, target: Target) -> int:
    lanes = target.hardware.lanes
    return rows * columns // lanes + rows // lanes + columns // lanes


def _cost(rows: int, columns: int, positions: int, lanes: int) -> float:
    """Estimate the instructions per useful multiply-add."""
    multiplies = rows * columns / lanes
    # One instruction loads two vectors.
    loads = (rows + columns) / lanes / 2
    tiles = -(-positions // rows)
    last = positions - (tiles - 1) * rows
    rest = last * columns / lanes + loads
    return ((tiles - 1) * (multiplies + loads) + rest) / (positions * columns / lanes)


def _flatten(sch: Schedule, main: Any, last: Any, work: Contraction, rows: int) -> Any:
    """Flatten all positions into one axis, and make `main` read a packed copy of its input.

    Returns
    -------
    BlockRV
        The packing block.
    """
    _, height, width = (work.extents[axis] for axis in work.positions)

    def flat_position(n: Any, y: Any, x: Any) -> Any:
        return (n * height + y) * width + x

    sch.transform_layout(main, ("write", 0), lambda n, y, x, f: [flat_position(n, y, x), f])
    sch.transform_block_layout(
        main, lambda n, y, x, f, ky, kx, k: [flat_position(n, y, x), f, ky, kx, k]
    )
    sch.transform_block_layout(last, lambda n, y, x, f: [flat_position(n, y, x), f])
    packed = sch.reindex(main, ("read", work.input_read))
    sch.transform_layout(
        main,
        ("read", work.input_read),
        lambda p, k: [p // rows, k, p % rows],
        assume_injective_transform=True,
    )
    return packed


def load_vectors(sch: Schedule, main: Any, read: int, loop: Any, lanes: int) -> None:
    """Read the packed input into registers as vectors."""
    copy = sch.cache_read(main, read, "global")
    sch.compute_at(copy, loop, preserve_unit_loops=True)
    fusion.vectorize_tile(sch, fusion.loops_below(sch, copy, loop), lanes)


def _pack(sch: Schedule, packed: Any, loop: Any | None, rows: int, lanes: int) -> None:
    """Pack each tile at `loop`, the loop over tiles, or all tiles first if it is None."""
    if loop is None:
        p, k = sch.get_loops(packed)
        tiles, p = sch.split(p, [None, rows])
        sch.annotate(tiles, "pragma_loop_partition_hint", 1)
        sch.parallel(tiles)
    else:
        sch.compute_at(packed, loop, preserve_unit_loops=True)
        p, k = fusion.loops_below(sch, packed, loop)
    k_outer, k_lanes = sch.split(k, [None, lanes])
    sch.reorder(k_outer, p, k_lanes)
    sch.unroll(p)
    sch.vectorize(k_lanes)

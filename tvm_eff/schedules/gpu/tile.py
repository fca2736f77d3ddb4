"""Convolution and dense layers: one register tile of positions by channels per work-item.

A work-item keeps `rows` positions x `columns` channels of the output in registers over
the whole reduction. The weights are packed at build time as [channel block][kernel][input
channel][channel in block] and read as vectors; the input is read as vectors along its
channels, each of which is used lane by lane. Padding is tested once per input vector.
Nothing uses local memory, which on Mali is global memory.

The space has three kinds of tiles: as large as the registers allow, with the least memory
traffic; moderate ones, which leave registers for more work-items in flight; and wide ones
for OpenCL on CPUs, whose vectors are long.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import IndexMap, PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.cpu.contraction import inline_and_pack, packings_of
from tvm_eff.schedules.gpu.threads import Group, Width, gpu_of, groups, launch, widths
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import Target

MAX_ROWS, MAX_VECTORS = 16, 5
MODERATE_REGISTER_SHARE = 0.5
"""Largest fraction of the registers that a moderate tile's sums use."""

MAX_MODERATE_TILES, MAX_LARGE_TILES, MAX_WIDE_TILES = 3, 2, 3
"""Limits on the candidate tiles of each kind."""

MAX_UNROLLED = 192
"""Vector multiply-adds in the innermost loop: Mali's instruction caches are small."""

WORK_ITEMS_PER_CORE = 64
"""Work-items in flight that keep one core busy."""


@dataclass(frozen=True)
class Tile:
    """The register tile of one work-item.

    Attributes
    ----------
    rows
        Output positions.
    columns
        Output channels.
    width
        Vector length and register budget.
    unroll
        Input channels per reduction step.
    window
        Whether the input of a whole kernel row is loaded at once and shared among positions.
    """

    rows: int
    columns: int
    width: Width
    unroll: int
    window: bool

    @property
    def sums(self) -> int:
        """Registers that hold the tile."""
        return self.rows * self.columns

    @property
    def vectors(self) -> int:
        """Vectors across the tile's channels."""
        return self.columns // self.width.lanes


class GpuTile:
    """The rule for dense and standard, strided, dilated and grouped convolution."""

    name = "gpu_tile"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return tiles of each kind round-robin, lowest estimated cost first."""
        work = contraction(func)
        if work is None or work.depthwise:
            return []
        flat = is_pointwise(func, work)
        return [
            _candidate(tile, group, flat)
            for tile in _tiles(work, flat, target)
            for group in groups(*_grid(tile, work, flat), tile.width, target)
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["columns"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as one register tile per work-item."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        main, last, paddings = inline_and_pack(sch, work, packings_of(work, candidate["columns"]))
        if candidate["flat"]:
            copy = _flatten(sch, main, last, work)
        else:
            copy = sch.cache_read(main, work.input_read, "local", consumer_blocks=[main])
        for padding in paddings:
            sch.compute_inline(padding)
        sch.set_scope(main, 0, "local")
        _schedule_tile(sch, main, last, copy, work, candidate)


def _candidate(tile: Tile, group: Group, flat: bool) -> Candidate:
    decisions = {
        "rows": tile.rows,
        "columns": tile.columns,
        "lanes": tile.width.lanes,
        "unroll": tile.unroll,
        "window": int(tile.window),
        "flat": int(flat),
        "group_y": group.y,
        "group_x": group.x,
    }
    return Candidate.of(GpuTile.name, decisions)


def is_pointwise(func: PrimFunc, work: Contraction) -> bool:
    """Whether the positions can be flattened: each reads the input at the same position."""
    positions = [work.extents[axis] for axis in work.positions]
    *kernel, depth = (work.extents[axis] for axis in work.reduction)
    if len(positions) < 2 or math.prod(kernel) != 1 or work.groups != 1:
        return False
    if list(work.input_shape) != [*positions, depth]:
        return False
    sch = analysis.inspect(func)
    before = sch.get_producers(sch.get_sblock(work.block))
    return all(analysis.is_identity_copy(sch.get(block)) for block in before)


def _grid(tile: Tile, work: Contraction, flat: bool) -> tuple[int, int]:
    """Return the numbers of work-items along the channels and the positions."""
    outer, width = _positions(work, flat)
    return work.channels // tile.columns, outer * -(-width // tile.rows)


def _positions(work: Contraction, flat: bool) -> tuple[int, int]:
    """Return the extents of the outer positions and of the positions that are tiled."""
    positions = math.prod(work.extents[axis] for axis in work.positions)
    return (1, positions) if flat else (positions // work.width, work.width)


def _tiles(work: Contraction, flat: bool, target: Target) -> list[Tile]:
    """Return tiles of each kind round-robin, lowest estimated cost of each first."""
    kinds = []
    for width in widths(work.channels // work.groups, target):
        found = _tiles_of(width, work, flat)
        found.sort(key=lambda tile: _cost(tile, work, flat, target))
        if width.is_wide:
            kinds.append(found[:MAX_WIDE_TILES])
            continue
        limit = MODERATE_REGISTER_SHARE * width.registers
        kinds.append([tile for tile in found if tile.sums <= limit][:MAX_MODERATE_TILES])
        kinds.append([tile for tile in found if tile.sums > limit][:MAX_LARGE_TILES])
    rounds = itertools.zip_longest(*kinds)
    return [tile for each in rounds for tile in each if tile is not None]


def _tiles_of(width: Width, work: Contraction, flat: bool) -> list[Tile]:
    unroll = next(n for n in (4, 3, 2, 1) if work.depth % n == 0)
    channels = work.channels // work.groups
    _, positions = _positions(work, flat)
    return [
        tile
        for columns in divisors(channels, MAX_VECTORS * width.lanes)
        if columns % width.lanes == 0
        for rows in range(1, min(positions, MAX_ROWS) + 1)
        for window in (False, True)
        if _fits_registers(tile := Tile(rows, columns, width, unroll, window), work)
    ]


def _fits_registers(tile: Tile, work: Contraction) -> bool:
    across = _across(work)
    if tile.window and across == 1:
        return False
    steps = tile.unroll * (across if tile.window else 1)
    if steps * tile.rows * tile.vectors > MAX_UNROLLED:
        return False
    # The input vector of a step is dead after it; those of a kernel row stay live.
    inputs = tile.unroll * (_window_width(tile, work) if tile.window else 1)
    return tile.sums + tile.columns + inputs <= tile.width.registers


def _across(work: Contraction) -> int:
    """Return the kernel's width."""
    *kernel, _ = (1, *(work.extents[axis] for axis in work.reduction))
    return kernel[-1]


def _window_width(tile: Tile, work: Contraction) -> int:
    """Return how many input positions of one row a tile reads."""
    stride = max(1, round(work.input_shape[-2] / work.width))
    return (tile.rows - 1) * stride + _across(work)


def _cost(tile: Tile, work: Contraction, flat: bool, target: Target) -> float:
    """Estimate the instructions per useful multiply-add."""
    across = _across(work)
    reads = _window_width(tile, work) if tile.window else tile.rows * across
    per_read = 1 if flat else 3
    multiplies = tile.rows * tile.vectors * tile.unroll * across
    loads = reads * per_read * (1 if tile.unroll == target.lanes else tile.unroll)
    loads += tile.vectors * tile.unroll * across
    columns, rows = _grid(tile, work, flat)
    outer, width = _positions(work, flat)
    tail = rows * tile.rows / (outer * width)
    busy = columns * rows / (gpu_of(target).cores * WORK_ITEMS_PER_CORE)
    idle = max(1.0, 1 / busy) ** 0.5
    return (1 + (loads + 4) / multiplies) * tail * idle


def _flatten(sch: Schedule, main: Any, last: Any, work: Contraction) -> Any:
    """Flatten all positions into one axis.

    Returns
    -------
    BlockRV
        The block that reads the input.
    """
    positions = [work.extents[axis] for axis in work.positions]
    count = len(positions)

    def flat(*index: Any) -> list[Any]:
        position = index[0]
        for extent, each in zip(positions[1:], index[1:count], strict=True):
            position = position * extent + each
        return [position, *index[count:]]

    sch.transform_layout(main, ("write", 0), flat)
    sch.transform_block_layout(main, IndexMap.from_func(flat, ndim=len(work.extents)))
    sch.transform_block_layout(last, IndexMap.from_func(flat, ndim=count + 1))
    copy = sch.reindex(main, ("read", work.input_read))
    sch.set_scope(copy, 0, "local")
    return copy


def _schedule_tile(
    sch: Schedule, main: Any, last: Any, copy: Any, work: Contraction, candidate: Candidate
) -> None:
    loops = sch.get_loops(main)
    count = len(work.reduction)
    *positions, channel = loops[:-count]
    *kernel, depth = loops[-count:]
    rows = sample(sch, [1, 2, 4, 8], candidate["rows"])
    columns = sample(sch, [4, 8, 16], candidate["columns"])
    unroll = sample(sch, [1, 2, 4], candidate["unroll"])
    window = candidate["window"]
    sample(sch, [0, 1], window)
    if positions:
        *outer, x = positions
        x_outer, x_inner = sch.split(x, [None, rows])
        tiles, inner = [*outer, x_outer], [x_inner]
    else:
        tiles, inner = [sch.add_unit_loop(loops[0])], []
    f_outer, f_inner = sch.split(channel, [None, columns])
    f_vectors, f_lanes = sch.split(f_inner, [None, candidate["lanes"]])
    k_outer, k_inner = sch.split(depth, [None, unroll])
    steps = [*kernel[:-1], k_outer, kernel[-1]] if window else [*kernel, k_outer]
    unrolled = [k_inner, *inner, f_vectors]
    if window:
        unrolled.insert(0, kernel[-1])
    sch.reorder(*tiles, f_outer, *steps, k_inner, *inner, f_vectors, f_lanes)
    _, item = launch(
        sch, sch.fuse(*tiles), f_outer, Group(candidate["group_x"], candidate["group_y"])
    )
    _read_input(sch, copy, k_outer, candidate["unroll"])
    sch.reverse_compute_at(last, item, preserve_unit_loops=True)
    fusion.vectorize_tile(sch, fusion.loops_below(sch, last, item), candidate["lanes"])
    sch.vectorize(f_lanes)
    for loop in unrolled:
        sch.unroll(loop)
    sch.decompose_reduction(main, steps[0])


def _read_input(sch: Schedule, copy: Any, loop: Any, unroll: int) -> None:
    """Read the input of one step into registers, as whole vectors where possible."""
    sch.compute_at(copy, loop, preserve_unit_loops=True)
    *spatial, depth = fusion.loops_below(sch, copy, loop)
    if unroll in (2, 4):
        sch.vectorize(depth)
    else:
        sch.unroll(depth)
    for each in spatial:
        sch.unroll(each)

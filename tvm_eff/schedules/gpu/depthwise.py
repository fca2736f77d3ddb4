"""Depthwise convolution: a work-item computes neighbouring positions of one channel vector.

The tile's input window is loaded into registers once, each element with a padding test, and
the kernel is unrolled. A kernel too large for that is processed row by row.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import fusion
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.cpu.contraction import inline_and_pack, packings_of
from tvm_eff.schedules.gpu.threads import Group, Width, gpu_of, groups, launch, widths
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, sample
from tvm_eff.targets import Target

MAX_DOWN, MAX_ACROSS = 4, 8
MAX_KERNEL_ELEMENTS = 32
MAX_SAFE_TILES, MAX_OTHER_TILES, MAX_WIDE_TILES = 2, 3, 4
"""Limits on the candidate tiles of each kind."""

WORK_ITEMS_PER_CORE = 64
"""Work-items in flight that keep one core busy."""


@dataclass(frozen=True)
class _Window:
    """Kernel size, stride and output size of a convolution, (down, across)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    positions: tuple[int, int]

    def reads(self, down: int, across: int) -> tuple[int, int]:
        """Return the extents of the input window of a tile."""
        (tall, wide), (step_down, step_across) = self.kernel, self.stride
        return (down - 1) * step_down + tall, (across - 1) * step_across + wide


class GpuDepthwise:
    """The rule for depthwise convolution with any kernel, stride and dilation."""

    name = "gpu_depthwise"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers, lowest estimated cost first."""
        work = contraction(func)
        if work is None or not work.depthwise or not work.positions:
            return []
        whole = int(math.prod(_window(work).kernel) <= MAX_KERNEL_ELEMENTS)
        return [
            Candidate.of(
                self.name,
                {
                    "down": down,
                    "across": across,
                    "lanes": width.lanes,
                    "whole": whole,
                    "group_y": group.y,
                    "group_x": group.x,
                },
            )
            for down, across, width in _tiles(work, whole, target)
            for group in groups(*_grid(down, across, width.lanes, work), width, target)
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["lanes"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as one tile of positions per work-item."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        main, last, paddings = inline_and_pack(sch, work, packings_of(work, candidate["lanes"]))
        copy = sch.cache_read(main, work.input_read, "local", consumer_blocks=[main])
        for padding in paddings:
            sch.compute_inline(padding)
        sch.set_scope(main, 0, "local")
        down = sample(sch, [1, 2, 4], candidate["down"])
        across = sample(sch, [1, 2, 4], candidate["across"])
        lanes = candidate["lanes"]
        loops = sch.get_loops(main)
        *outer, x = (loops[axis] for axis in work.positions)
        kernel = [loops[axis] for axis in work.reduction]
        inner = []
        if len(outer) > 1:
            y_outer, y_inner = sch.split(outer.pop(), [None, down])
            outer, inner = [*outer, y_outer], [y_inner]
        x_outer, x_inner = sch.split(x, [None, across])
        f_outer, f_lanes = sch.split(loops[work.channel], [None, lanes])
        # The reduction axes are kernel height, kernel width and a depth of one.
        count = 3 if candidate["whole"] else 2
        steps, unrolled = kernel[:-count], kernel[-count:]
        sample(sch, [0, 1], candidate["whole"])
        sch.reorder(*outer, x_outer, f_outer, *kernel, *inner, x_inner, f_lanes)
        tiles = sch.fuse(*outer, x_outer)
        group = Group(candidate["group_x"], candidate["group_y"])
        _, item = launch(sch, tiles, f_outer, group)
        _read_window(sch, copy, steps[-1] if steps else item)
        sch.reverse_compute_at(last, item, preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, item), lanes)
        sch.vectorize(f_lanes)
        for loop in (*unrolled, *inner, x_inner):
            sch.unroll(loop)
        sch.decompose_reduction(main, kernel[0])


def _read_window(sch: Schedule, copy: Any, loop: Any) -> None:
    """Read the input window of a tile into registers."""
    sch.compute_at(copy, loop, preserve_unit_loops=True)
    *spatial, lanes = fusion.loops_below(sch, copy, loop)
    sch.vectorize(lanes)
    for each in spatial:
        sch.unroll(each)


def _window(work: Contraction) -> _Window:
    *kernel, _ = (work.extents[axis] for axis in work.reduction)
    positions = [work.extents[axis] for axis in work.positions]
    tall, wide = ([1, *kernel])[-2:]
    # Rows are tiled only for images; a one-dimensional input has none.
    rows = positions[-2] if len(positions) > 2 else 1
    sizes = ([1, 1, *work.input_shape])[-3:-1]
    stride = [
        max(1, round((size - k) / max(1, count - 1)))
        for size, k, count in zip(sizes, (tall, wide), (rows, positions[-1]), strict=True)
    ]
    return _Window((tall, wide), (stride[0], stride[1]), (rows, positions[-1]))


def _grid(down: int, across: int, lanes: int, work: Contraction) -> tuple[int, int]:
    """Return the numbers of work-items along the channels and the positions."""
    rows, width = _window(work).positions
    positions = math.prod(work.extents[axis] for axis in work.positions)
    tiles = positions // (rows * width) * -(-rows // down) * -(-width // across)
    return work.channels // lanes, tiles


def _tiles(work: Contraction, whole: int, target: Target) -> list[tuple[int, int, Width]]:
    """Return tiles of each kind round-robin, lowest estimated cost of each first."""
    window = _window(work)
    kinds = []
    for width in widths(work.channels, target):
        found = [
            (down, across, width)
            for down in range(1, min(window.positions[0], MAX_DOWN if whole else 1) + 1)
            for across in range(1, min(window.positions[1], MAX_ACROSS) + 1)
            if _registers(down, across, width.lanes, window) <= width.registers
        ]
        found.sort(key=lambda tile: _cost(tile[0], tile[1], tile[2], work, target))
        if width.is_wide:
            kinds.append(found[:MAX_WIDE_TILES])
            continue
        # How much of the window stays in registers is up to the device's compiler.
        safe = [tile for tile in found if _fits_at_once(tile[0], tile[1], width, window)]
        kinds.append(safe[:MAX_SAFE_TILES])
        kinds.append(
            [tile for tile in found if tile not in safe[:MAX_SAFE_TILES]][:MAX_OTHER_TILES]
        )
    rounds = itertools.zip_longest(*kinds)
    return [tile for each in rounds for tile in each if tile is not None]


def _registers(down: int, across: int, lanes: int, window: _Window) -> int:
    """Registers for the sums, one row of the window and one row of the kernel."""
    _, wide = window.reads(down, across)
    return (down * across + wide + window.kernel[1]) * lanes


def _fits_at_once(down: int, across: int, width: Width, window: _Window) -> bool:
    """Whether the sums and the whole input window fit the registers."""
    vectors = down * across + math.prod(window.reads(down, across)) + 1
    return vectors * width.lanes <= width.registers


def _cost(down: int, across: int, width: Width, work: Contraction, target: Target) -> float:
    """Estimate the instructions per output vector."""
    window = _window(work)
    rows, positions = window.positions
    kernel_elements = math.prod(window.kernel)
    # Each element has a padding test.
    loads = 3 * math.prod(window.reads(down, across)) + kernel_elements
    tail = -(-rows // down) * down * -(-positions // across) * across / (rows * positions)
    columns, tiles = _grid(down, across, width.lanes, work)
    busy = columns * tiles / (gpu_of(target).cores * WORK_ITEMS_PER_CORE)
    return (kernel_elements + loads / (down * across)) * tail * max(1.0, 1 / busy) ** 0.5

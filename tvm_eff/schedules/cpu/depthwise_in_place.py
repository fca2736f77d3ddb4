"""Depthwise convolution that reads its input in place, with no padded copy of it.

The tile is `down` x `across` positions by one vector of channels, its kernel unrolled
around all of it: every input element is loaded once, and in one of two orders the weights
stay in registers for a row of tiles. What is padding is asked for in the tiles at the
border alone, which are split off; there the multiplications by zero are left out at compile
time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.cpu.contraction import (
    bias_decision,
    packings_of,
    reads_in_place,
    row_shares,
    separate,
    start_from_bias,
)
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import FLOAT32_BYTES, Target

MOST_DOWN, MOST_ACROSS = 7, 7
MOST_TAPS = 12
MOST_CANDIDATES = 8

LEAST_TILES = 5
"""Tiles in a row of which some in the middle are left as a loop."""
ADDRESSES = 30
"""Elements of a window that are loaded without further instructions."""

IN_FLIGHT = 6
"""Registers for what has just been loaded, the bias and the bounds of the activation."""

STREAM_BYTES = 64
"""Channels that one thread takes: a line of the cache, so that no two threads write to one."""

CHANNELS_INNER = "channels_inner"
"""The decision to take all channels of a thread at one place before the next.

Reads and writes then go on in memory. In the other order the weights stay in registers, but
places with a power of two of channels are in few sets of the first cache, which lose them.
"""

FAR_APART_BYTES = 1024
"""From one place to the next, so that their order is worth a decision: with less, the network
took longer with :data:`CHANNELS_INNER`, although one kernel did not."""


@dataclass(frozen=True)
class _Window:
    """The kernel of a convolution and how far it moves, (down, across)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    positions: tuple[int, int]


class DepthwiseInPlace:
    """The rule for depthwise convolution with a small kernel, beside the other."""

    name = "depthwise_in_place"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers, the cheapest estimate first."""
        work = _match(func, target)
        if work is None:
            return []
        window = _window(work)
        free = target.hardware.vector_registers - math.prod(window.kernel) - IN_FLIGHT
        shares = row_shares(work, target)
        rows = window.positions[0] // shares
        found = [
            (down, across)
            for down in range(1, min(rows, MOST_DOWN) + 1)
            # A share's last tile must not reach into the next one's rows.
            if shares == 1 or rows % down == 0
            for across in range(1, min(window.positions[1], MOST_ACROSS) + 1)
            if down * across <= free and not _is_straight(across, window)
        ]
        found.sort(key=lambda tile: _cost(tile[0], tile[1], window))
        bias = bias_decision(func, work, target)
        return [
            Candidate.of(
                self.name,
                {
                    "down": down,
                    "across": across,
                    "lanes": target.hardware.lanes,
                    "together": _together(work, target, shares, order),
                    "shares": shares,
                    **bias,
                    **order,
                },
            )
            for order in _orders(work, target)
            for down, across in found[:MOST_CANDIDATES]
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["lanes"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as register tiles, those at the border apart."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        work = start_from_bias(sch, work, candidate)
        main, last, paddings = separate(sch, work, candidate["lanes"])
        for padding in paddings:
            sch.compute_inline(padding)
        loops = sch.get_loops(main)
        down = sample(sch, [1, 2, 4], candidate["down"])
        across = sample(sch, [1, 2, 4], candidate["across"])
        together = sample(sch, [target.hardware.lanes], candidate["together"])
        batch, y, x = (loops[axis] for axis in work.positions)
        shares = candidate["shares"]
        share, y = sch.split(y, [shares, None])
        y_outer, y_inner = sch.split(y, [None, down])
        x_outer, x_inner = sch.split(x, [None, across])
        part, f = sch.split(loops[work.channel], [None, together])
        f_outer, f_lanes = sch.split(f, [None, candidate["lanes"]])
        ky, kx, kc = (loops[axis] for axis in work.reduction)
        tile = [kx, ky, kc, x_inner, y_inner]
        around = [f_outer, x_outer]
        if candidate.as_dict().get(CHANNELS_INNER):
            sample(sch, [0, 1], 1)
            around.reverse()
        sch.reorder(batch, share, part, y_outer, *around, *tile, f_lanes)
        sch.reverse_compute_at(last, around[-1], preserve_unit_loops=True)
        below = fusion.loops_below(sch, last, around[-1])
        fusion.vectorize_tile(sch, below, candidate["lanes"])
        sch.vectorize(f_lanes)
        for loop in tile:
            sch.unroll(loop)
        for loop in (y_outer, x_outer):
            sch.annotate(loop, "pragma_loop_partition_hint", 1)
        sch.parallel(sch.fuse(batch, share, part))
        sch.decompose_reduction(main, kx)


def _match(func: PrimFunc, target: Target) -> Contraction | None:
    work = contraction(func)
    if work is None or not work.depthwise or not reads_in_place(target):
        return None
    if len(work.positions) != 3 or len(work.reduction) != 3:
        return None
    if work.channels % target.hardware.lanes:
        return None
    if math.prod(work.extents[axis] for axis in work.reduction) > MOST_TAPS:
        return None
    sch = analysis.inspect(func)
    # More than one is a transposed convolution: whether there is padding depends on more.
    before = sch.get_producers(sch.get_sblock(work.block))
    return work if len(before) <= 1 else None


def _window(work: Contraction) -> _Window:
    kernel = work.extents[work.reduction[0]], work.extents[work.reduction[1]]
    positions = work.extents[work.positions[1]], work.extents[work.positions[2]]
    sizes = work.input_shape[1:3]
    stride = tuple(
        max(1, round((size - k) / max(1, count - 1)))
        for size, k, count in zip(sizes, kernel, positions, strict=True)
    )
    return _Window(kernel, (stride[0], stride[1]), positions)


def _orders(work: Contraction, target: Target) -> list[dict[str, int]]:
    """The orders of places and channels, as decisions."""
    far = work.channels * FLOAT32_BYTES >= FAR_APART_BYTES
    return [{CHANNELS_INNER: 1}, {}] if far and target.private_caches else [{}]


def _together(work: Contraction, target: Target, shares: int, order: dict[str, int]) -> int:
    """Channels of one thread: whole lines of the cache, unless cores would be idle."""
    lanes = target.hardware.lanes
    if shares > 1:
        return work.channels
    if order and work.channels % (target.hardware.cores * lanes) == 0:
        return work.channels // target.hardware.cores
    batch = work.extents[work.positions[0]]
    sizes = [n for n in divisors(work.channels, work.channels) if n % lanes == 0]
    busy = [n for n in sizes if batch * work.channels // n >= target.hardware.cores]
    line = STREAM_BYTES // FLOAT32_BYTES
    return max((n for n in busy if n <= line), default=sizes[0])


def _is_straight(across: int, window: _Window) -> bool:
    """Whether so few tiles make up a row that no loop is left between those at the border.

    LLVM then moves instructions from tile to tile until registers spill.
    """
    width = window.positions[1]
    tiles = -(-width // across)
    return width > 2 * LEAST_TILES and 1 < tiles < LEAST_TILES


def _cost(down: int, across: int, window: _Window) -> float:
    """Estimate the instructions around the multiply-adds of one output vector."""
    rows, columns = (
        (count - 1) * stride + kernel
        for count, stride, kernel in zip((down, across), window.stride, window.kernel, strict=True)
    )
    loads = rows * columns / (down * across)
    # Apart from the border, a load has an address of its own where rows are far apart;
    # there are no registers for many of them, nor for what so large a window keeps.
    addresses = max(0, rows * columns - ADDRESSES) / (down * across)
    tails = [
        -(-whole // part) * part / whole
        for whole, part in zip(window.positions, (down, across), strict=True)
    ]
    return (loads + addresses) * math.prod(tails)

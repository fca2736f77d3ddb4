"""Depthwise convolution that reads its input in place, without a padded copy.

The tile is `down` x `across` positions by one vector of channels, with the kernel fully
unrolled: every input element is loaded once, and in one of two loop orders the weights stay
in registers for a row of tiles. Only the border tiles test for padding; they are partitioned
off, and their multiplications by zero are eliminated at compile time.
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
    inline_and_pack,
    packings_of,
    reads_in_place,
    row_chunks,
    start_from_bias,
)
from tvm_eff.schedules.cpu.half_sums import half_decision, sum_in_half
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import Target

MAX_DOWN, MAX_ACROSS = 7, 7
MAX_KERNEL_ELEMENTS = 12
MAX_CANDIDATES = 8

MIN_LOOP_TILES = 5
"""Tiles per row from which the inner ones remain a loop."""
MAX_DIRECT_LOADS = 30
"""Elements of an input window that can be loaded without address computations."""

SPARE_REGISTERS = 6
"""Registers for loads in flight, the bias and the bounds of the activation."""

MAX_CHUNK_BYTES = 64
"""Channels of one task: a cache line, so that no two threads write to the same one."""

CHANNELS_INNER = "channels_inner"
"""The decision to compute all channels of a task at one position before the next.

Reads and writes are then sequential. In the other order the weights stay in registers, but
positions with a power of two of channels map to few sets of the L1 cache and are evicted.
"""

MIN_POSITION_BYTES = 1024
"""Distance between positions from which their order is a decision: with less, networks were
slower with :data:`CHANNELS_INNER`, although a single kernel was not."""


@dataclass(frozen=True)
class _Window:
    """Kernel size, stride and output size of a convolution, (down, across)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    positions: tuple[int, int]


class DepthwiseInPlace:
    """The extra rule for depthwise convolution with a small kernel."""

    name = "depthwise_in_place"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers, lowest estimated cost first."""
        work = _match(func, target)
        if work is None:
            return []
        window = _window(work)
        free = target.hardware.vector_registers - math.prod(window.kernel) - SPARE_REGISTERS
        chunks = row_chunks(work, target)
        rows = window.positions[0] // chunks
        found = [
            (down, across)
            for down in range(1, min(rows, MAX_DOWN) + 1)
            # A chunk's last tile must not extend into the rows of the next chunk.
            if chunks == 1 or rows % down == 0
            for across in range(1, min(window.positions[1], MAX_ACROSS) + 1)
            if down * across <= free and not _leaves_no_loop(across, window)
        ]
        found.sort(key=lambda tile: _cost(tile[0], tile[1], window))
        bias, half = bias_decision(func, work, target), half_decision(func, work, target)
        return [
            Candidate.of(
                self.name,
                {
                    "down": down,
                    "across": across,
                    "lanes": target.hardware.lanes,
                    "together": _channels_per_chunk(work, target, chunks, order),
                    "chunks": chunks,
                    **bias,
                    **order,
                    **half,
                },
            )
            for order in _orders(work, target)
            for down, across in found[:MAX_CANDIDATES]
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["lanes"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as register tiles, border tiles partitioned off."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        work = start_from_bias(sch, work, candidate)
        main, last, paddings = inline_and_pack(sch, work, packings_of(work, candidate["lanes"]))
        for padding in paddings:
            sch.compute_inline(padding)
        sum_in_half(sch, main, candidate)
        loops = sch.get_loops(main)
        down = sample(sch, [1, 2, 4], candidate["down"])
        across = sample(sch, [1, 2, 4], candidate["across"])
        chunk_channels = sample(sch, [target.hardware.lanes], candidate["together"])
        batch, y, x = (loops[axis] for axis in work.positions)
        chunks = candidate["chunks"]
        chunk, y = sch.split(y, [chunks, None])
        y_outer, y_inner = sch.split(y, [None, down])
        x_outer, x_inner = sch.split(x, [None, across])
        part, f = sch.split(loops[work.channel], [None, chunk_channels])
        f_outer, f_lanes = sch.split(f, [None, candidate["lanes"]])
        ky, kx, kc = (loops[axis] for axis in work.reduction)
        tile = [kx, ky, kc, x_inner, y_inner]
        around = [f_outer, x_outer]
        if candidate.as_dict().get(CHANNELS_INNER):
            sample(sch, [0, 1], 1)
            around.reverse()
        sch.reorder(batch, chunk, part, y_outer, *around, *tile, f_lanes)
        sch.reverse_compute_at(last, around[-1], preserve_unit_loops=True)
        below = fusion.loops_below(sch, last, around[-1])
        fusion.vectorize_tile(sch, below, candidate["lanes"])
        sch.vectorize(f_lanes)
        for loop in tile:
            sch.unroll(loop)
        for loop in (y_outer, x_outer):
            sch.annotate(loop, "pragma_loop_partition_hint", 1)
        sch.parallel(sch.fuse(batch, chunk, part))
        sch.decompose_reduction(main, kx)


def _match(func: PrimFunc, target: Target) -> Contraction | None:
    work = contraction(func)
    if work is None or not work.depthwise or not reads_in_place(target):
        return None
    if len(work.positions) != 3 or len(work.reduction) != 3:
        return None
    if work.channels % target.hardware.lanes:
        return None
    if math.prod(work.extents[axis] for axis in work.reduction) > MAX_KERNEL_ELEMENTS:
        return None
    sch = analysis.inspect(func)
    # More than one producer is a transposed convolution, whose padding predicate is complex.
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
    """The loop orders of positions and channels, as decisions."""
    far = work.channels * target.hardware.value_bytes >= MIN_POSITION_BYTES
    return [{CHANNELS_INNER: 1}, {}] if far and target.private_caches else [{}]


def _channels_per_chunk(
    work: Contraction, target: Target, chunks: int, order: dict[str, int]
) -> int:
    """Channels per task: whole cache lines, unless cores would be idle."""
    lanes = target.hardware.lanes
    if chunks > 1:
        return work.channels
    if order and work.channels % (target.hardware.cores * lanes) == 0:
        return work.channels // target.hardware.cores
    batch = work.extents[work.positions[0]]
    sizes = [n for n in divisors(work.channels, work.channels) if n % lanes == 0]
    busy = [n for n in sizes if batch * work.channels // n >= target.hardware.cores]
    line = MAX_CHUNK_BYTES // target.hardware.value_bytes
    return max((n for n in busy if n <= line), default=sizes[0])


def _leaves_no_loop(across: int, window: _Window) -> bool:
    """Whether a row has so few tiles that no loop remains between the border tiles.

    LLVM then schedules instructions across tiles until registers spill.
    """
    width = window.positions[1]
    tiles = -(-width // across)
    return width > 2 * MIN_LOOP_TILES and 1 < tiles < MIN_LOOP_TILES


def _cost(down: int, across: int, window: _Window) -> float:
    """Estimate the instructions besides the multiply-adds per output vector."""
    rows, columns = (
        (count - 1) * stride + kernel
        for count, stride, kernel in zip((down, across), window.stride, window.kernel, strict=True)
    )
    loads = rows * columns / (down * across)
    # Where rows are far apart each load needs its own address register; there are too few
    # for many of them, and for what so large a window keeps live.
    addresses = max(0, rows * columns - MAX_DIRECT_LOADS) / (down * across)
    tails = [
        -(-whole // part) * part / whole
        for whole, part in zip(window.positions, (down, across), strict=True)
    ]
    return (loads + addresses) * math.prod(tails)

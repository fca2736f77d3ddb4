"""Winograd's products where sums are of float16: blocks of channels, added to totals.

As :mod:`tvm_eff.schedules.cpu.half_tile`, whose blocks may be of a kernel's positions as well. Here
blocks are short, and to add them takes long: the estimate counts it, so that totals stay in
registers where they can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule

from tvm_eff.schedules import fusion
from tvm_eff.schedules.cpu import half_sums
from tvm_eff.schedules.cpu.contraction import STEPS
from tvm_eff.schedules.cpu.convolution import (
    Tile,
    fitting_tiles,
    hardware_vectors,
    keeps_reduction_loop,
    load_input_vectors,
    loads_input_vectors,
    tile_cost,
    tiles,
)
from tvm_eff.schedules.cpu.half_tile import MOST_ROWS
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.schedules.winograd import rewrite as algorithm
from tvm_eff.schedules.winograd.match import Convolution
from tvm_eff.targets import Target

MOST_CHANNELS = 128
"""Channels of one total in float16; more are added up in float32. As blocks are short, there would
be more of them than channels in one, and a total would add more to the error than they do."""

_LOOP = 3
"""Instructions that count and branch, for each block."""

_SPARE = 2
"""Registers that LLVM needs besides, for what it loads ahead."""


def block_of(depth: int, most: int) -> int:
    """Return how many of `depth` channels to sum in one block: up to `most`, in whole steps."""
    if depth <= most:
        return depth
    return max(divisors(depth, most), key=lambda block: (math.gcd(block, STEPS[1]), block))


def register_tiles(
    work: Convolution, positions: int, block: int, target: Target
) -> list[tuple[Tile, float]]:
    """Return tiles for blocks of so many channels, with their instructions a multiply-add."""
    channels = int(work.result.shape[3])
    if block == work.depth:
        whole = tiles(positions, channels, block, target)
        return [(t, tile_cost(t, positions, target)) for t in whole if t.rows <= MOST_ROWS]
    registers = 1 if work.depth <= MOST_CHANNELS else 2
    fitting = (
        _Blocks(tile, block, registers, target)
        for tile in fitting_tiles(positions, channels, work.depth, target)
        if tile.rows <= MOST_ROWS and block % tile.unroll == 0
    )
    found = [(each.tile, each.cost(positions)) for each in fitting if each.is_a_loop_or_fits()]
    return sorted(found, key=lambda pair: pair[1])


@dataclass(frozen=True)
class _Blocks:
    """Blocks of products in a register tile, and the totals that they are added to.

    Attributes
    ----------
    tile
        The register tile.
    channels
        Input channels of a block.
    registers
        Registers that hold the totals of one register of sums.
    target
        The target as the kernel sees it.
    """

    tile: Tile
    channels: int
    registers: int
    target: Target

    def cost(self, positions: int) -> float:
        """Estimate the instructions per useful multiply-add."""
        full, rest = divmod(positions, self.tile.rows)
        cost = full * self.tile.rows * self._rows_cost(self.tile.rows)
        return (cost + (rest * self._rows_cost(rest) if rest else 0)) / positions

    def is_a_loop_or_fits(self) -> bool:
        """Whether LLVM keeps the loop over channels, or has registers enough without it.

        In tiles of 7 x 16 it unrolls that loop, and spills the weights that it then loads ahead:
        0.121 instructions a multiply-add of a 3x3 convolution, with 6 x 16 or 8 x 16 0.100.
        """
        spilled = self._registers(self.tile.rows) - self.target.hardware.vector_registers
        return keeps_reduction_loop(self.tile, self.channels) or spilled <= _SPARE

    def _registers(self, rows: int) -> int:
        vectors = hardware_vectors(self.tile, self.target)
        return rows * vectors * (1 + self.registers) + vectors + rows + _SPARE

    def _rows_cost(self, rows: int) -> float:
        hardware, tile = self.target.hardware, self.tile
        vectors = hardware_vectors(tile, self.target)
        sums = rows * vectors
        by_vector = loads_input_vectors(tile, self.target)
        loads = -(-self.channels // hardware.lanes) if by_vector else self.channels
        read = rows * loads + vectors * self.channels / 2
        totals = sums * self.registers
        # A total that is not in a register is loaded and stored.
        spilled = min(totals, max(0, self._registers(rows) - hardware.vector_registers))
        # Sums are cleared and added; totals of float32 are twice as many, from halves widened.
        added = 2 * sums if self.registers == 1 else sums + 2 * totals
        stall = max(1.0, 4 * hardware.fma_per_cycle / sums)
        used = tile.columns / (vectors * hardware.lanes)
        beside = read + added + 2 * spilled + _LOOP
        return max(stall, 1 + beside / (self.channels * sums)) / used


def sum_in_blocks(sch: Schedule, product: Any, candidate: Candidate) -> list[Any]:
    """Have the products summed in float16, in blocks if there are several.

    Returns
    -------
    list of BlockRV
        The totals, and the sums of blocks if they are others.
    """
    depth = sch.get_loops(product)[-1]
    if candidate["depth"] == int(sch.get(depth).extent):
        half_sums.narrow(sch, product)
        return [product]
    outer, _ = sch.split(depth, [None, sample(sch, STEPS, candidate["depth"])])
    sums = sch.rfactor(outer, 0)
    half_sums.narrow(sch, sums)
    return [sch.get_sblock(algorithm.PRODUCT), sums]


def multiply_blocks(
    sch: Schedule,
    blocks: tuple[Any, Any, Any],
    part: Any,
    candidate: Candidate,
    target: Target,
) -> None:
    """Tile totals, sums and the copy of the totals (BlockRV), which are below the loop `part`."""
    total, sums, last = blocks
    tile = Tile(*(candidate[name] for name in ("rows", "columns", "lanes", "unroll")))
    rows = sample(sch, [1, 2, 4, 8], tile.rows)
    columns = sample(sch, [target.hardware.lanes], tile.columns)
    block, *outer, p, f = fusion.loops_below(sch, total, part)
    uneven = int(sch.get(p).extent) % tile.rows
    p_outer, p_inner = sch.split(p, [None, rows])
    f_outer, f_inner = sch.split(f, [None, columns])
    f_vectors, f_lanes = sch.split(f_inner, [None, tile.lanes])
    sch.reorder(f_outer, *outer, p_outer, block, p_inner, f_vectors, f_lanes)
    sch.compute_at(sums, block, preserve_unit_loops=True)
    first = _tile_sums(sch, sums, block, tile, target)
    sch.reverse_compute_at(last, p_outer, preserve_unit_loops=True)
    fusion.vectorize_tile(sch, fusion.loops_below(sch, last, p_outer), tile.lanes)
    sch.vectorize(f_lanes)
    for loop in (p_inner, f_vectors):
        sch.unroll(loop)
    if uneven:
        sch.annotate(p_outer, "pragma_loop_partition_hint", 1)
    sch.decompose_reduction(sums, first)
    sch.decompose_reduction(total, block)


def _tile_sums(sch: Schedule, sums: Any, block: Any, tile: Tile, target: Target) -> Any:
    """Tile the sums of one block, and return the loop over steps of its channels (LoopRV)."""
    *_, p, f, depth = fusion.loops_below(sch, sums, block)
    k_outer, k_inner = sch.split(depth, [None, sample(sch, [1, 4], tile.unroll)])
    f_vectors, f_lanes = sch.split(f, [None, tile.lanes])
    sch.reorder(k_outer, k_inner, p, f_vectors, f_lanes)
    if loads_input_vectors(tile, target):
        load_input_vectors(sch, sums, 0, k_outer)
    sch.vectorize(f_lanes)
    for loop in (k_inner, p, f_vectors):
        sch.unroll(loop)
    return k_outer

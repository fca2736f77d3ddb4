"""Register tiles of Winograd's products of 16 bits, which SMLAL adds to sums of 32.

As :mod:`tvm_eff.schedules.cpu.convolution`, where a vector of weights has eight output channels,
and their sums are in two registers. On 64-bit Arm a step's input is loaded in vectors of eight
channels.
"""

from __future__ import annotations

import math

from tvm_eff.schedules.cpu.contraction import multiplies_by_lane, steps
from tvm_eff.schedules.cpu.convolution import Tile, keeps_reduction_loop
from tvm_eff.schedules.rule import divisors
from tvm_eff.schedules.winograd.integers import parts_of
from tvm_eff.schedules.winograd.match import Convolution
from tvm_eff.targets import Target

LANES = 8
"""Values of 16 bits in a vector."""

_MOST_COLUMNS, _MOST_ROWS = 32, 12
_MOST_TILES = 2

_LANE_REGISTERS = 15
"""A factor of 16 bits must be in one of the first 16 registers, and one of these is for weights."""

_SPARE_IN_ORDER = 5  # registers: LLVM schedules loads early where nothing else hides their latency
_LEAST_BESIDE = 4  # registers, in 32 bits
_LOOP = 3  # instructions, of a step
_TILE = 8  # instructions, of addresses for each tile


def register_tiles(work: Convolution, positions: int, target: Target) -> list[tuple[Tile, float]]:
    """Return the tiles to try, each with its estimated instructions a multiply-add of a vector."""
    parts = parts_of(work.depth)
    assert parts is not None, "the workload was matched"
    depth = work.depth // parts
    shapes = [
        tile
        for columns in divisors(int(work.result.shape[3]), _MOST_COLUMNS)
        if columns % LANES == 0
        for rows in range(1, min(positions, _MOST_ROWS) + 1)
        for unroll in _unrolls(depth, target)
        if _fits(tile := Tile(rows, columns, LANES, unroll), depth, target)
    ]
    costs = {tile: _cost(tile, positions, depth, target) for tile in shapes}
    best: dict[tuple[int, int], tuple[Tile, float]] = {}
    for tile in sorted(shapes, key=costs.__getitem__):
        best.setdefault((tile.rows, tile.columns), (tile, costs[tile]))
    return list(best.values())[:_MOST_TILES]


def _unrolls(depth: int, target: Target) -> list[int]:
    # Of more than one step LLVM spills in 32 bits: 0.51 instructions a multiply-add of the 3x3
    # convolution from 16 to 64 channels with 8, 0.24 with one.
    return steps(depth) if multiplies_by_lane(target) else [1]


def _sums(tile: Tile, rows: int) -> int:
    """Registers for the sums of so many rows."""
    return rows * tile.columns * 4 // 16


def _holds_weights(tile: Tile, depth: int, target: Target) -> bool:
    """Whether LLVM unrolls the reduction, and keeps its weights in registers for all positions."""
    return multiplies_by_lane(target) and not keeps_reduction_loop(_narrow(tile), depth)


def _narrow(tile: Tile) -> Tile:
    """The tile in vectors of sums."""
    return Tile(tile.rows, tile.columns, LANES // 2, tile.unroll)


def _fits(tile: Tile, depth: int, target: Target) -> bool:
    sums, vectors = _sums(tile, tile.rows), tile.vectors
    most = target.hardware.vector_registers
    if not multiplies_by_lane(target):
        # LLVM spills with 14 registers of sums, though one vector and one factor are left.
        return sums + max(vectors + 1, _LEAST_BESIDE) <= most
    if _holds_weights(tile, depth, target):
        return sums + depth * vectors + 2 <= most
    inputs = tile.rows * math.ceil(tile.unroll / LANES)
    spare = _SPARE_IN_ORDER if target.hardware.issue_width <= 2 else 0
    return inputs <= _LANE_REGISTERS and sums + inputs + vectors + spare <= most


def _cost(tile: Tile, positions: int, depth: int, target: Target) -> float:
    full, rest = divmod(positions, tile.rows)
    cost = full * tile.rows * _rows_cost(tile, tile.rows, depth, target)
    return (cost + (rest * _rows_cost(tile, rest, depth, target) if rest else 0)) / positions


def _rows_cost(tile: Tile, rows: int, depth: int, target: Target) -> float:
    """Estimate the instructions a multiply-add in a tile of so many rows."""
    sums = _sums(tile, rows)
    if _holds_weights(tile, depth, target):
        # The first products need no sums that are cleared.
        beside = rows * math.ceil(depth / LANES) + sums / 2 + _TILE
        return 1 + beside / (sums * depth)
    if multiplies_by_lane(target):
        inputs = rows * math.ceil(tile.unroll / LANES)
        weights = tile.vectors * tile.unroll / 2
    else:
        inputs, weights = rows * tile.unroll, tile.vectors * tile.unroll
    step = (inputs + weights + _LOOP) / (sums * tile.unroll)
    return 1 + step + (1.5 * sums + _TILE) / (sums * depth)

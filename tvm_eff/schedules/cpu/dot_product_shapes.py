"""Which register tiles of dot products fit Arm's registers, and what they cost.

As in :mod:`tvm_eff.schedules.cpu.convolution`, the input of a step is loaded in vectors along the
channels, and each product takes its activations from there.
"""

from __future__ import annotations

import math

from tvm_eff.schedules.analysis import Contraction
from tvm_eff.schedules.cpu.convolution import MAX_ROWS, MAX_VECTORS, Tile
from tvm_eff.schedules.cpu.dot_products import DotProduct
from tvm_eff.schedules.rule import divisors
from tvm_eff.targets import Target

STEPS = (4, 2, 1)
"""Products of one vector of the input: what 16, 8 and 4 bytes hold."""

_MAX_UNROLLED = 300  # instructions: LLVM's -unroll-threshold at -O3
_SPARE_IN_ORDER = 5  # registers: LLVM schedules loads early where nothing else hides their latency
_LOOP = 3  # instructions


def tiles(work: Contraction, product: DotProduct, target: Target) -> list[Tile]:
    """Return the tiles that fit, lowest estimated cost first; `unroll` counts products."""
    blocks = work.depth // product.length
    unroll = next(step for step in STEPS if blocks % step == 0 and (step < blocks or step == 1))
    found = [
        tile
        for columns in divisors(work.channels, MAX_VECTORS * product.lanes)
        if columns % product.lanes == 0
        for rows in range(1, min(work.width, MAX_ROWS) + 1)
        if _registers(tile := Tile(rows, columns, product.lanes, unroll), product, target)
        <= target.hardware.vector_registers
    ]
    found = [tile for tile in found if _keeps_reduction_loop(tile, blocks, product)] or found
    return sorted(found, key=lambda tile: _cost(tile, work.width, product))


def _registers(tile: Tile, product: DotProduct, target: Target) -> int:
    """Registers for the tile, its input and the weights of one product."""
    in_order = target.hardware.issue_width <= 2 and product.spare > 0
    spare = product.spare + (_SPARE_IN_ORDER if in_order else 0)
    return tile.accumulators + tile.rows + tile.vectors + spare


def _keeps_reduction_loop(tile: Tile, blocks: int, product: DotProduct) -> bool:
    """Whether LLVM keeps the reduction as a loop, and does not spill what it would hoist."""
    return tile.accumulators * blocks * product.instructions > _MAX_UNROLLED


def _cost(tile: Tile, width: int, product: DotProduct) -> float:
    """Estimate the instructions per useful product of a vector."""
    full, rest = divmod(width, tile.rows)
    whole = full * _tile_cost(tile.rows, tile, product)
    return (whole + (_tile_cost(rest, tile, product) if rest else 0)) / (width * tile.vectors)


def _tile_cost(rows: int, tile: Tile, product: DotProduct) -> float:
    """Estimate the instructions of one step of a tile of so many rows, by product."""
    products = rows * tile.vectors * product.instructions
    # Of a pair of bytes, each in a register of its own.
    broadcasts = rows * (product.length // product.part) if product.part < product.length else 0
    inputs = rows / tile.unroll
    weights = math.ceil(tile.vectors / 2)
    return products + broadcasts + inputs + weights + _LOOP / tile.unroll

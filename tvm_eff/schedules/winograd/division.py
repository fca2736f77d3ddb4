"""How a convolution is divided for Winograd's algorithm: into tiles and blocks of their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm_eff.schedules.cpu.convolution import Tile
from tvm_eff.schedules.cpu.row_blocks import ELEMENTS_PER_CYCLE
from tvm_eff.schedules.rule import divisors
from tvm_eff.schedules.winograd.match import Convolution
from tvm_eff.targets import FLOAT32_BYTES, Target

WHOLE = 0
"""Value of the decision ``tile_rows`` for no row blocks: each step processes the whole image."""

RegisterTiles = Callable[[int], list[tuple[Tile, float]]]
"""For so many positions, the register tiles to try and each one's instructions a multiply-add."""


@dataclass(frozen=True)
class Division:
    """A division of a convolution, with sizes in elements.

    Attributes
    ----------
    tile, tile_rows, registers
        The decisions.
    parts
        Number of parallel tasks.
    products
        Multiply-adds of all tasks.
    weights
        Elements of the transformed weight.
    block_elements
        Elements of transformed input and products that a task keeps live.
    cost
        Instructions per multiply-add in a register tile.
    """

    tile: int
    tile_rows: int
    registers: Tile
    parts: int
    products: int
    weights: int
    block_elements: int
    cost: float

    def cycles(self, target: Target) -> float:
        """Estimate the cycles: the products, and traffic beyond the L2 cache."""
        hardware = target.hardware
        used = min(self.parts, hardware.cores)
        rounds = -(-self.parts // used)
        work = self.products / self.parts * rounds * self.cost
        cache_elements = hardware.l2_kib * 1024 // hardware.value_bytes
        whole = self.tile_rows == WHOLE
        weight_reads = (
            1 if whole or self.weights + self.block_elements <= cache_elements else rounds
        )
        moved = self.weights * weight_reads + (
            2 * self.block_elements * rounds if self.block_elements > cache_elements else 0
        )
        elements_per_cycle = ELEMENTS_PER_CYCLE * FLOAT32_BYTES // hardware.value_bytes
        return work / (hardware.lanes * hardware.fma_per_cycle) + moved / elements_per_cycle

    def decisions(self) -> dict[str, int]:
        """Return the decisions as a candidate has them."""
        return {
            "tile": self.tile,
            "tile_rows": self.tile_rows,
            "rows": self.registers.rows,
            "columns": self.registers.columns,
            "lanes": self.registers.lanes,
            "unroll": self.registers.unroll,
        }


def divisions(work: Convolution, target: Target, register_tiles: RegisterTiles) -> list[Division]:
    """Return the divisions of a convolution, lowest estimated cost first."""
    batch, height, width, channels = (int(n) for n in work.result.shape)
    depth = work.depth
    found = []
    for filtering in work.filters:
        tile = filtering.tile
        down, across = -(-height // tile), -(-width // tile)
        elements = filtering.size**2
        for tile_rows in (WHOLE, *divisors(down, down)):
            positions = (tile_rows or batch * down) * across
            for registers, cost in register_tiles(positions):
                kept = registers.columns if tile_rows == WHOLE else channels
                found.append(
                    Division(
                        tile,
                        tile_rows,
                        registers,
                        parts=batch * down // tile_rows
                        if tile_rows
                        else channels // registers.columns,
                        products=elements * batch * down * across * channels * depth,
                        weights=elements * channels * depth,
                        block_elements=elements * positions * (depth + kept),
                        cost=cost,
                    )
                )
    return sorted(found, key=lambda division: division.cycles(target))

"""Strassen's algorithm where each core has caches of its own: bands of positions.

A band's sums, its seven products and its part of the result follow one another on one
core, which finds each of them in its second cache. The products are computed in register
tiles as in :mod:`tvm_eff.schedules.cpu.convolution`, which take the input from memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.passes.attributes import PREFETCH
from tvm_eff.schedules import fusion
from tvm_eff.schedules.cpu.convolution import (
    CHANNELS_OUTER,
    Nest,
    Tile,
    register_tile,
    tile_cost,
    tiles,
)
from tvm_eff.schedules.cpu.row_blocks import ELEMENTS_PER_CYCLE, divide
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Alternative, Candidate, divisors, sample, split_vector
from tvm_eff.schedules.strassen import rewrite as algorithm
from tvm_eff.schedules.strassen.rewrite import PRODUCTS, Pointwise, match
from tvm_eff.schedules.strassen.rule import SummedPacking, alternative, pack_weight, sum_output
from tvm_eff.targets import FLOAT32_BYTES, Target

LEAST = 256
"""The fewest channels, on both sides: additions take back what smaller matrices gain."""

SHARES = (1, 2, 4, 8)
"""Into how many equal parts the positions of a quarter may be made to divide."""

BLOCKS = (64, 32, 16, 8)
"""Of how many output channels a quarter has a multiple, so that register tiles divide it."""

MOST_ADDED = 1 / 16
"""The share of channels that may be added for that."""

MOST_TILES = 5
"""Register tiles of each number of bands."""

MOST_CANDIDATES = 8


class StrassenByBands:
    """The rule for large 1x1 convolution of stride 1 on x86, beside the direct one."""

    name = "strassen_by_bands"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return register tiles and numbers of bands, the cheapest estimate first."""
        work = match(func, LEAST)
        if work is None or not target.private_caches:
            return []
        block = _block(work)
        return [
            Candidate.of(
                self.name,
                {
                    "shares": choice.shares,
                    "block": block,
                    "bands": choice.bands,
                    "rows": choice.registers.rows,
                    "columns": choice.registers.columns,
                    "lanes": choice.registers.lanes,
                    "unroll": choice.registers.unroll,
                },
            )
            for choice in _choices(work, block, target)[:MOST_CANDIDATES]
        ]

    def alternatives(self, func: PrimFunc) -> list[Alternative]:
        """Return the functions that the rule schedules, if it matches."""
        work = match(func, LEAST)
        if work is None:
            return []
        block = _block(work)
        different = {work.half(shares): shares for shares in reversed(SHARES)}
        return [
            alternative(f"{self.name}{shares}", func, work, block, shares)
            for shares in sorted(different.values())
        ]

    def rewrite(self, func: PrimFunc, candidate: Candidate) -> PrimFunc:
        """Return the function with its convolution computed by the algorithm."""
        work = match(func, LEAST)
        assert work is not None, "the workload was matched when the candidate was made"
        return algorithm.rewrite(func, work, candidate["block"], candidate["shares"])

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        work = match(func, LEAST)
        if work is None:
            return []
        columns, block = candidate["columns"], candidate["block"]
        return [SummedPacking(work.weight_parameter, 0, (1, 2), columns, block)]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``, which :meth:`rewrite` has made, band by band."""
        product = sch.get_sblock(algorithm.PRODUCT)
        pack_weight(sch, product, Packing(0, 0, (1, 2), candidate["columns"]))
        sample(sch, [1, 2], candidate["bands"])
        whole = _is_whole(sch, product)
        part = sum_output(sch, product, candidate["lanes"], candidate["bands"] if whole else None)
        _, half, _ = (int(n) for n in sch.get(product).writes[0].source.shape)
        written = divide(sch, product, half // candidate["bands"])
        if whole:
            band = part
            sch.compute_at(written, band, preserve_unit_loops=True)
        else:
            band, *_ = sch.get_loops(written)
            sch.parallel(band)
        sch.compute_at(product, band, preserve_unit_loops=True)
        _sum_input(sch, band, candidate["lanes"])
        _multiply(sch, product, written, band, candidate, target)


@dataclass(frozen=True)
class _Choice:
    """How the positions may be cut, and the register tile.

    Attributes
    ----------
    shares, bands, registers
        The decisions.
    cycles
        An estimate of what a core takes.
    """

    shares: int
    bands: int
    registers: Tile
    cycles: float


def _block(work: Pointwise) -> int:
    """The most channels of which few have to be added to get a multiple."""
    channels = int(work.result.shape[3])
    most = (1 + MOST_ADDED) * channels
    return next((n for n in BLOCKS if 2 * work.half_channels(n) <= most), BLOCKS[-1])


def _choices(work: Pointwise, block: int, target: Target) -> list[_Choice]:
    """The ways to cut the positions, the cheapest estimate first."""
    cores = target.hardware.cores
    shares = 1 if work.positions % (2 * cores) == 0 else math.gcd(cores, SHARES[-1])
    half, channels = work.half(shares), work.half_channels(block)
    depth = int(work.source.shape[3]) // 2
    cuts = divisors(half, half)
    even = [bands for bands in cuts if bands % cores == 0]
    found = [
        _Choice(
            shares,
            bands,
            registers,
            _cycles(half, bands, depth, channels, registers, target),
        )
        for bands in even or cuts
        for registers in tiles(half // bands, channels, depth, target)[:MOST_TILES]
    ]
    return sorted(found, key=lambda choice: choice.cycles)


def _cycles(
    half: int, bands: int, depth: int, channels: int, registers: Tile, target: Target
) -> float:
    """Estimate the products of one core, and what does not stay in its second cache."""
    hardware = target.hardware
    rounds = -(-bands // hardware.cores)
    places = half // bands
    room = hardware.l2_kib * 1024 // FLOAT32_BYTES
    weights, band = PRODUCTS * depth * channels, PRODUCTS * places * (depth + channels)
    again = 1 if weights + band <= room else rounds
    moved = weights * again + (2 * band * rounds if band > room else 0)
    products = rounds * PRODUCTS * places * depth * channels
    cost = tile_cost(registers, places, target)
    speed = hardware.lanes * hardware.fma_per_cycle
    return products * cost / speed + moved / ELEMENTS_PER_CYCLE


def _is_whole(sch: Schedule, product: Any) -> bool:
    """Whether the result has as many positions as its quarters.

    If not, TVM does not find out which products a band of the result needs.
    """
    _, half, _ = (int(n) for n in sch.get(product).writes[0].source.shape)
    result = sch.get(sch.get_sblock(algorithm.RESULT)).writes[0].source
    return math.prod(int(n) for n in result.shape[:-1]) == 2 * half


def _multiply(
    sch: Schedule, product: Any, written: Any, band: Any, candidate: Candidate, target: Target
) -> None:
    """Compute the products of a band in register tiles."""
    *outer, p, f, depth = fusion.loops_below(sch, product, band)
    nest = Nest(outer=tuple(outer), places=p, channel=f, kernel=(), depth=depth)
    f_outer, k_outer = register_tile(
        sch, product, written, nest, 0, candidate, CHANNELS_OUTER, target
    )
    blocks = PRODUCTS * int(sch.get(f_outer).extent)
    sch.annotate(k_outer, PREFETCH, [blocks, candidate["columns"], candidate["bands"]])
    sch.decompose_reduction(product, k_outer)


def _sum_input(sch: Schedule, band: Any, lanes: int) -> None:
    """Sum the quarters of a band's input for all products, each element loaded once."""
    block = sch.get_sblock(algorithm.INPUT)
    sch.compute_at(block, band, preserve_unit_loops=True)
    i, p, k = fusion.loops_below(sch, block, band)
    k, vector = sch.split(k, [None, split_vector(int(sch.get(k).extent), lanes)])
    sch.reorder(p, k, i, vector)
    sch.unroll(i)
    sch.vectorize(vector)
    sch.annotate(p, "pragma_loop_partition_hint", 1)

"""Strassen's algorithm in row blocks (blocks of positions), where cores have private caches.

A row block's sums, its seven products and its part of the result are computed in sequence on
one core, which keeps them in its L2 cache. The products are computed in register tiles as in
:mod:`tvm_eff.schedules.cpu.convolution`, which read the input from memory.
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
from tvm_eff.schedules.cpu.row_blocks import ELEMENTS_PER_CYCLE, split_into_row_blocks
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Alternative, Candidate, divisors, sample, split_vector
from tvm_eff.schedules.strassen import rewrite as algorithm
from tvm_eff.schedules.strassen.rewrite import PRODUCTS, Pointwise, match
from tvm_eff.schedules.strassen.rule import SummedPacking, alternative, pack_weight, sum_output
from tvm_eff.targets import FLOAT32_BYTES, Target

MIN_CHANNELS = 256
"""The minimum of input and output channels: with fewer, the additions outweigh the savings."""

CHUNK_COUNTS = (1, 2, 4, 8)
"""Numbers of equal parts to which the positions of a quarter may be padded."""

BLOCKS = (64, 32, 16, 8)
"""The output channels of a quarter are a multiple of one of these, for the register tiles."""

MAX_ADDED_CHANNELS = 1 / 16
"""Largest fraction of channels that may be added as padding for that."""

MAX_TILES = 5
"""Register tiles per number of row blocks."""

MAX_CANDIDATES = 8


class StrassenRowBlocks:
    """The extra rule for large 1x1 convolution of stride 1 where caches are private."""

    name = "strassen_row_blocks"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return register tiles and numbers of row blocks, lowest estimated cost first."""
        work = match(func, MIN_CHANNELS)
        if work is None or not target.private_caches:
            return []
        block = _block(work)
        return [
            Candidate.of(
                self.name,
                {
                    "chunks": choice.chunks,
                    "block": block,
                    "row_blocks": choice.row_blocks,
                    "rows": choice.registers.rows,
                    "columns": choice.registers.columns,
                    "lanes": choice.registers.lanes,
                    "unroll": choice.registers.unroll,
                },
            )
            for choice in _choices(work, block, target)[:MAX_CANDIDATES]
        ]

    def alternatives(self, func: PrimFunc) -> list[Alternative]:
        """Return the equivalent functions that the rule schedules, if it matches."""
        work = match(func, MIN_CHANNELS)
        if work is None:
            return []
        block = _block(work)
        different = {work.half(chunks): chunks for chunks in reversed(CHUNK_COUNTS)}
        return [
            alternative(f"{self.name}{chunks}", func, work, block, chunks)
            for chunks in sorted(different.values())
        ]

    def rewrite(self, func: PrimFunc, candidate: Candidate) -> PrimFunc:
        """Return the function with its convolution computed by the algorithm."""
        work = match(func, MIN_CHANNELS)
        assert work is not None, "the workload was matched when the candidate was made"
        return algorithm.rewrite(func, work, candidate["block"], candidate["chunks"])

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        work = match(func, MIN_CHANNELS)
        if work is None:
            return []
        columns, block = candidate["columns"], candidate["block"]
        return [SummedPacking(work.weight_parameter, 0, (1, 2), columns, block)]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``, the result of :meth:`rewrite`, in row blocks."""
        product = sch.get_sblock(algorithm.PRODUCT)
        pack_weight(sch, product, Packing(0, 0, (1, 2), candidate["columns"]))
        sample(sch, [1, 2], candidate["row_blocks"])
        whole = _is_whole(sch, product)
        part = sum_output(
            sch, product, candidate["lanes"], candidate["row_blocks"] if whole else None
        )
        _, half, _ = (int(n) for n in sch.get(product).writes[0].source.shape)
        written = split_into_row_blocks(sch, product, half // candidate["row_blocks"])
        if whole:
            row_block = part
            sch.compute_at(written, row_block, preserve_unit_loops=True)
        else:
            row_block, *_ = sch.get_loops(written)
            sch.parallel(row_block)
        sch.compute_at(product, row_block, preserve_unit_loops=True)
        _sum_input(sch, row_block, candidate["lanes"])
        _multiply(sch, product, written, row_block, candidate, target)


@dataclass(frozen=True)
class _Choice:
    """The division of the positions, and the register tile.

    Attributes
    ----------
    chunks, row_blocks, registers
        The decisions.
    cycles
        Estimated cycles of one core.
    """

    chunks: int
    row_blocks: int
    registers: Tile
    cycles: float


def _block(work: Pointwise) -> int:
    """The largest block whose padding stays below :data:`MAX_ADDED_CHANNELS`."""
    channels = int(work.result.shape[3])
    limit = (1 + MAX_ADDED_CHANNELS) * channels
    return next((n for n in BLOCKS if 2 * work.half_channels(n) <= limit), BLOCKS[-1])


def _choices(work: Pointwise, block: int, target: Target) -> list[_Choice]:
    """The divisions of the positions, lowest estimated cost first."""
    cores = target.hardware.cores
    chunks = 1 if work.positions % (2 * cores) == 0 else math.gcd(cores, CHUNK_COUNTS[-1])
    half, channels = work.half(chunks), work.half_channels(block)
    depth = int(work.source.shape[3]) // 2
    cuts = divisors(half, half)
    even = [row_blocks for row_blocks in cuts if row_blocks % cores == 0]
    found = [
        _Choice(
            chunks,
            row_blocks,
            registers,
            _cycles(half, row_blocks, depth, channels, registers, target),
        )
        for row_blocks in even or cuts
        for registers in tiles(half // row_blocks, channels, depth, target)[:MAX_TILES]
    ]
    return sorted(found, key=lambda choice: choice.cycles)


def _cycles(
    half: int, row_blocks: int, depth: int, channels: int, registers: Tile, target: Target
) -> float:
    """Estimate the cycles of one core: the products, and traffic beyond its L2 cache."""
    hardware = target.hardware
    rounds = -(-row_blocks // hardware.cores)
    positions = half // row_blocks
    cache_elements = hardware.l2_kib * 1024 // FLOAT32_BYTES
    weights, block_elements = PRODUCTS * depth * channels, PRODUCTS * positions * (depth + channels)
    weight_reads = 1 if weights + block_elements <= cache_elements else rounds
    moved = weights * weight_reads + (
        2 * block_elements * rounds if block_elements > cache_elements else 0
    )
    products = rounds * PRODUCTS * positions * depth * channels
    cost = tile_cost(registers, positions, target)
    speed = hardware.lanes * hardware.fma_per_cycle
    return products * cost / speed + moved / ELEMENTS_PER_CYCLE


def _is_whole(sch: Schedule, product: Any) -> bool:
    """Whether the quarters have no padded positions.

    If they do, TVM's region analysis does not find which products a row block needs.
    """
    _, half, _ = (int(n) for n in sch.get(product).writes[0].source.shape)
    result = sch.get(sch.get_sblock(algorithm.RESULT)).writes[0].source
    return math.prod(int(n) for n in result.shape[:-1]) == 2 * half


def _multiply(
    sch: Schedule, product: Any, written: Any, row_block: Any, candidate: Candidate, target: Target
) -> None:
    """Compute the products of a row block in register tiles."""
    *outer, p, f, depth = fusion.loops_below(sch, product, row_block)
    nest = Nest(outer=tuple(outer), position=p, channel=f, kernel=(), depth=depth)
    f_outer, k_outer = register_tile(
        sch, product, written, nest, 0, candidate, CHANNELS_OUTER, target
    )
    blocks = PRODUCTS * int(sch.get(f_outer).extent)
    sch.annotate(k_outer, PREFETCH, [blocks, candidate["columns"], candidate["row_blocks"]])
    sch.decompose_reduction(product, k_outer)


def _sum_input(sch: Schedule, row_block: Any, lanes: int) -> None:
    """Sum the quarters of a row block's input for all products, loading each element once."""
    block = sch.get_sblock(algorithm.INPUT)
    sch.compute_at(block, row_block, preserve_unit_loops=True)
    i, p, k = fusion.loops_below(sch, block, row_block)
    k, vector = sch.split(k, [None, split_vector(int(sch.get(k).extent), lanes)])
    sch.reorder(p, k, i, vector)
    sch.unroll(i)
    sch.vectorize(vector)
    sch.annotate(p, "pragma_loop_partition_hint", 1)

"""Convolution and dense layers in float16: a register tile whose sums are of float16, in blocks.

As :mod:`tvm_eff.schedules.cpu.convolution`, with twice as many channels in a vector. Longer sums
are cut into blocks of a few positions of the kernel and a few input channels: the tile of a block
is kept in registers, and then added to totals (:mod:`tvm_eff.schedules.cpu.half_sums`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import fusion
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.cpu import half_sums
from tvm_eff.schedules.cpu.contraction import (
    BIAS_FIRST,
    STEPS,
    bias_decision,
    bias_of,
    inline_and_pack,
    pack_weight,
    packings_of,
    start_from_bias,
)
from tvm_eff.schedules.cpu.convolution import (
    CHANNELS_INNER,
    ORDERS,
    Tile,
    load_input_vectors,
    loads_input_vectors,
    loop_orders,
    schedule_tile,
    tiles,
)
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import Target

MOST_ROWS = 10
"""A row's factors are in a lane of one of the first 16 registers, as everything else may be: with
13 rows a 1x1 convolution of 512 channels takes 0.27 instructions a multiply-add, with 9 0.16."""


@dataclass(frozen=True)
class _Block:
    """The products that are summed in float16.

    Attributes
    ----------
    kernel
        How many axes of the kernel it covers, the innermost ones.
    depth
        How many input channels.
    terms
        How many products.
    """

    kernel: int
    depth: int
    terms: int

    @property
    def loop(self) -> int:
        """What the reduction's steps are chosen for: all of its loops, if they divide alike."""
        alike = math.gcd(self.terms, STEPS[0]) == math.gcd(self.depth, STEPS[0])
        return self.terms if alike else self.depth


class HalfTile:
    """The rule for dense and standard convolution where the processor computes in float16."""

    name = "half_tile"
    version = 2

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers in each loop order, lowest cost first."""
        work = contraction(func)
        if work is None or work.depthwise or not half_sums.may_sum_in_half(func, work, target):
            return []
        bias = bias_decision(func, work, target)
        sizes = half_sums.block_sizes(work)
        preferred, smaller = (self._of_blocks(work, terms, bias, target) for terms in sizes)
        if preferred[0] == smaller[0]:
            return preferred
        # The smaller ones are in reach of a short session, should the others round too much.
        return [
            each
            for number, others in enumerate(smaller)
            for each in (*preferred[2 * number : 2 * number + 2], others)
        ]

    def _of_blocks(
        self, work: Contraction, terms: int, bias: dict[str, int], target: Target
    ) -> list[Candidate]:
        block = _block(work, terms)
        return [
            Candidate.of(
                self.name,
                {
                    "rows": tile.rows,
                    "columns": tile.columns,
                    "lanes": tile.lanes,
                    "unroll": tile.unroll,
                    "order": order,
                    "kernel": block.kernel,
                    "depth": block.depth,
                    **bias,
                },
            )
            for tile in tiles(work.width, work.channels // work.groups, block.loop, target)
            if tile.rows <= MOST_ROWS
            for order in loop_orders(work, target)
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["columns"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as register tiles of one block of products after the other."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        whole = candidate["kernel"] == len(work.reduction) - 1 and candidate["depth"] == work.depth
        (_sum_whole if whole else _sum_blocks)(sch, work, candidate, target)


def _block(work: Contraction, terms: int) -> _Block:
    """Return the block of most products, up to `terms`; its channels in steps of vectors."""
    *kernel, depth = (work.extents[axis] for axis in work.reduction)
    found = []
    for inner in range(len(kernel) + 1):
        positions = math.prod(kernel[len(kernel) - inner :])
        if positions > terms:
            continue
        fitting = divisors(depth, terms // positions)
        found += [_Block(inner, channels, positions * channels) for channels in fitting]
    return max(found, key=lambda block: (_step(block.depth), block.terms, block.kernel))


def _step(channels: int) -> int:
    """The longest step that divides the channels, up to a vector."""
    return math.gcd(channels, STEPS[1])


def _sum_whole(sch: Schedule, work: Contraction, candidate: Candidate, target: Target) -> None:
    work = start_from_bias(sch, work, candidate)
    main, last, paddings = inline_and_pack(sch, work, packings_of(work, candidate["columns"]))
    for padding in paddings:
        fusion.schedule_elementwise(sch, padding, target.hardware.lanes)
    half_sums.narrow(sch, main)
    schedule_tile(sch, main, last, work, candidate, target)


def _sum_blocks(sch: Schedule, work: Contraction, candidate: Candidate, target: Target) -> None:
    main = sch.get_sblock(work.block)
    paddings = fusion.inline_copies(sch, main)
    pack_weight(sch, main, work, packings_of(work, candidate["columns"]))
    sums = _factor(sch, main, work, candidate)
    total = sch.get_sblock(work.block)
    if candidate.as_dict().get(BIAS_FIRST):
        sample(sch, [0, 1], 1)
        sch.fuse_reduction_epilogue(total, bias_of(sch, work))
    last = fusion.inline_epilogue(sch, total)
    if last is None:
        last = sch.cache_write(total, 0, "global")
    for padding in paddings:
        fusion.schedule_elementwise(sch, padding, target.hardware.lanes)
    half_sums.narrow_blocks(sch, sums, total, work)
    _schedule_blocks(sch, (sums, total, last), work, candidate, target)


def _factor(sch: Schedule, main: Any, work: Contraction, candidate: Candidate) -> Any:
    """Split the sums into blocks; the totals keep the name of `main`.

    Returns
    -------
    BlockRV
        The sums of each block.
    """
    loops = sch.get_loops(main)
    *kernel, depth = (loops[axis] for axis in work.reduction)
    channels = sample(sch, STEPS, candidate["depth"])
    outer, inner = sch.split(depth, [None, channels])
    split = len(kernel) - candidate["kernel"]
    sch.reorder(outer, *kernel, inner)
    return sch.rfactor(sch.fuse(outer, *kernel[:split]), 0)


def _schedule_blocks(
    sch: Schedule,
    blocks: tuple[Any, Any, Any],
    work: Contraction,
    candidate: Candidate,
    target: Target,
) -> None:
    sums, total, last = blocks
    tile = Tile(*(candidate[name] for name in ("rows", "columns", "lanes", "unroll")))
    rows = sample(sch, [1, 2, 4, 8], tile.rows)
    columns = sample(sch, [target.hardware.lanes], tile.columns)
    sample(sch, ORDERS, candidate["order"])
    *outer, x, channel, block = sch.get_loops(total)
    x_outer, x_inner = sch.split(x, [None, rows])
    f_outer, f_inner = sch.split(channel, [None, columns])
    f_vectors, f_lanes = sch.split(f_inner, [None, tile.lanes])
    inner = candidate["order"] == CHANNELS_INNER
    around = [*outer, x_outer, f_outer] if inner else [f_outer, *outer, x_outer]
    sch.reorder(*around, block, x_inner, f_vectors, f_lanes)
    sch.compute_at(sums, block, preserve_unit_loops=True)
    first = _schedule_sums(sch, sums, block, work, candidate, target)
    sch.reverse_compute_at(last, around[-1], preserve_unit_loops=True)
    fusion.vectorize_tile(sch, fusion.loops_below(sch, last, around[-1]), tile.lanes)
    sch.vectorize(f_lanes)
    for loop in (x_inner, f_vectors):
        sch.unroll(loop)
    if work.width % tile.rows:
        sch.annotate(x_outer, "pragma_loop_partition_hint", 1)
    sch.parallel(sch.fuse(*(outer if inner else [f_outer, *outer])))
    sch.decompose_reduction(sums, first)
    sch.decompose_reduction(total, block)


def _schedule_sums(
    sch: Schedule, sums: Any, block: Any, work: Contraction, candidate: Candidate, target: Target
) -> Any:
    """Tile the sums of one block, and return their first loop of the reduction (LoopRV)."""
    tile = Tile(*(candidate[name] for name in ("rows", "columns", "lanes", "unroll")))
    *_, x, f = (loops := fusion.loops_below(sch, sums, block))[: -1 - candidate["kernel"]]
    *kernel, depth = loops[len(loops) - 1 - candidate["kernel"] :]
    k_outer, k_inner = sch.split(depth, [None, sample(sch, [1, 4], tile.unroll)])
    f_vectors, f_lanes = sch.split(f, [None, tile.lanes])
    sch.reorder(*kernel, k_outer, k_inner, x, f_vectors, f_lanes)
    if loads_input_vectors(tile, target):
        load_input_vectors(sch, sums, work.input_read, k_outer)
    sch.vectorize(f_lanes)
    for loop in (k_inner, x, f_vectors):
        sch.unroll(loop)
    return kernel[0] if kernel else k_outer

"""Two depthwise convolutions in one kernel, such as the vertical and the horizontal half of one.

A few rows of the first one's result, some channels of them, stay in the nearest cache until
the second one has read them. Both read their input in place, as in
:mod:`tvm_eff.schedules.cpu.depthwise_in_place`; a row of the second needs one of the first, so that
nothing is computed twice.
"""

from __future__ import annotations

import math
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.analysis import Contraction, contractions
from tvm_eff.schedules.cpu.contraction import pack_weight, packings_of, row_shares, separate
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import FLOAT32_BYTES, Target

MOST_DOWN, MOST_ACROSS = 8, 8
MOST_TILES = 6
VECTORS = (4, 2, 1)
"""Of channels that a band takes together."""


class DepthwiseChain:
    """The rule for a depthwise convolution behind another, where caches are private."""

    name = "depthwise_chain"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return tiles of both convolutions, the cheapest estimate first."""
        works = match(func, target)
        if works is None or not works[1].depthwise:
            return []
        first, second = works
        shares = row_shares(second, target)
        height = second.extents[second.positions[1]] // shares
        outputs = most_outputs(target)
        tiles = [
            (down, ahead, across)
            for down in divisors(height, MOST_DOWN)
            for ahead in range(1, min(second.width, MOST_ACROSS) + 1)
            for across in range(1, min(second.width, MOST_ACROSS) + 1)
            if down * max(ahead, across) <= outputs
        ]
        tiles.sort(key=lambda tile: _cost(tile, first, second, target))
        lanes = target.hardware.lanes
        return [
            Candidate.of(
                self.name,
                {
                    "down": down,
                    "ahead": ahead,
                    "across": across,
                    "columns": vectors * lanes,
                    "lanes": lanes,
                    "shares": shares,
                },
            )
            for down, ahead, across in tiles[:MOST_TILES]
            for vectors in VECTORS
            if second.channels % (vectors * lanes) == 0
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the layouts of both weights."""
        return [
            packing
            for work in contractions(func)
            for packing in packings_of(work, candidate["lanes"])
        ]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as bands of rows, each of which goes through both convolutions."""
        first, second = contractions(sch.mod["main"])
        lanes = candidate["lanes"]
        between = blocks_between(sch, first, second)
        assert between is not None, "the workload was matched when the candidate was made"
        main, last, paddings = separate(sch, second, lanes)
        for padding in paddings:
            sch.compute_inline(padding)
        loops = sch.get_loops(main)
        down = sample(sch, [1, 2, 4], candidate["down"])
        across = sample(sch, [1, 2, 4], candidate["across"])
        columns = sample(sch, [lanes], candidate["columns"])
        batch, y, x = (loops[axis] for axis in second.positions)
        share, y = sch.split(y, [candidate["shares"], None])
        y_outer, y_inner = sch.split(y, [None, down])
        x_outer, x_inner = sch.split(x, [None, across])
        f_outer, f = sch.split(loops[second.channel], [None, columns])
        f_vectors, f_lanes = sch.split(f, [None, lanes])
        tile = [*(loops[axis] for axis in second.reduction), y_inner, x_inner]
        sch.reorder(batch, share, y_outer, f_outer, x_outer, f_vectors, *tile, f_lanes)
        sch.reverse_compute_at(last, f_vectors, preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, f_vectors), lanes)
        sch.vectorize(f_lanes)
        for loop in tile:
            sch.unroll(loop)
        # Before the first convolution stands inside it, which TVM takes for a dependence.
        band = parallel_rows(sch, batch, share, y_outer, candidate["shares"])
        compute_ahead(sch, first, between[:-1], f_outer, candidate["ahead"], lanes)
        for loop in (band, x_outer):
            sch.annotate(loop, "pragma_loop_partition_hint", 1)
        sch.decompose_reduction(main, tile[0])


def most_outputs(target: Target) -> int:
    """Return how many vectors a tile keeps in registers, beside its kernel and what it loads."""
    return target.hardware.vector_registers // 2


def parallel_rows(sch: Schedule, batch: Any, share: Any, y_outer: Any, shares: int) -> Any:
    """Share the rows among cores, or bands of them where the rows are not even.

    Returns
    -------
    LoopRV
        The loop over bands.
    """
    if shares > 1:
        sch.parallel(sch.fuse(batch, share))
        return y_outer
    band = sch.fuse(batch, share, y_outer)
    sch.parallel(band)
    return band


def compute_ahead(
    sch: Schedule, work: Contraction, between: list[str], loop: Any, ahead: int, lanes: int
) -> None:
    """Compute in each iteration of `loop` what the second convolution reads of the first.

    Parameters
    ----------
    sch
        What to schedule.
    work
        The first convolution.
    between
        The names of the elementwise blocks between the two.
    loop
        A loop (LoopRV) of the second one, over bands of rows or over some channels in one.
    ahead
        How many positions of a row a tile has.
    lanes
        Channels in a vector.
    """
    main, result, paddings = _separate_first(sch, work, between, lanes)
    for padding in paddings:
        sch.compute_inline(padding)
    sch.compute_at(result, loop, preserve_unit_loops=True)
    n, y, x, f = fusion.loops_below(sch, result, loop)
    x_outer, x_inner = sch.split(x, [None, sample(sch, [1, 2, 4], ahead)])
    f_vectors, f = sch.split(f, [None, lanes])
    sch.reorder(n, x_outer, f_vectors, y, x_inner, f)
    sch.compute_at(main, f_vectors, preserve_unit_loops=True)
    for each in (y, x_inner):
        sch.unroll(each)
    sch.vectorize(f)
    *outputs, f, ky, kx, kc = fusion.loops_below(sch, main, f_vectors)
    sch.reorder(ky, kx, kc, *outputs, f)
    for each in (ky, kx, kc, *outputs):
        sch.unroll(each)
    sch.vectorize(f)
    sch.annotate(x_outer, "pragma_loop_partition_hint", 1)
    sch.decompose_reduction(main, ky)


def _separate_first(
    sch: Schedule, work: Contraction, between: list[str], columns: int
) -> tuple[Any, Any, list[Any]]:
    """Deal with what stands around a contraction that another one reads.

    Returns
    -------
    tuple
        The block (BlockRV) that multiplies, into a buffer of its own; the block that writes
        what the other reads; and those before it that pad, which are still to be scheduled.
    """
    main = sch.get_sblock(work.block)
    paddings = fusion.inline_copies(sch, main)
    for name in between[:-1]:
        sch.compute_inline(sch.get_sblock(name))
    pack_weight(sch, main, work, columns)
    result = sch.get_sblock(between[-1]) if between else sch.cache_write(main, 0, "global")
    return main, result, paddings


def blocks_between(sch: Schedule, first: Contraction, second: Contraction) -> list[str] | None:
    """Return the names of the blocks between two contractions, elementwise but for the last.

    The last one pads, be it by nothing. None if there are others.
    """
    names = [str(sch.get(block).name_hint) for block in analysis.blocks(sch)]
    found = names[names.index(first.block) + 1 : names.index(second.block)]
    if not found:
        return None
    reader = sch.get_sblock(second.block)
    for name in reversed(found):
        producers = [str(sch.get(each).name_hint) for each in sch.get_producers(reader)]
        if producers != [name]:
            return None
        reader = sch.get_sblock(name)
    last = sch.get(sch.get_sblock(found[-1]))
    pads = analysis.is_identity_copy(last) or analysis.is_padding(last)
    return found if pads else None


def match(func: PrimFunc, target: Target) -> tuple[Contraction, Contraction] | None:
    """Return a depthwise convolution and one behind it that reads no other row, or None."""
    works = contractions(func)
    if len(works) != 2 or not target.private_caches:
        return None
    first, second = works
    if not first.depthwise or first.channels % target.hardware.lanes:
        return None
    if any(len(work.positions) != 3 or len(work.reduction) != 3 for work in works):
        return None
    if second.extents[second.reduction[0]] != 1:
        return None
    return (
        None if blocks_between(analysis.inspect(func), first, second) is None else (first, second)
    )


def _cost(
    tile: tuple[int, int, int], first: Contraction, second: Contraction, target: Target
) -> float:
    """Estimate the loads of one output vector."""
    down, ahead, across = tile
    width = second.width
    loads = loads_of((down, ahead), first) + 1 + loads_of((down, across), second)
    tails = sum(-(-width // part) * part / width for part in (ahead, across)) / 2
    rows = down * first.width * target.hardware.lanes * FLOAT32_BYTES
    waits = 1.0 if rows <= target.hardware.l1d_kib * 1024 else 1.5
    return loads * tails * waits


def loads_of(tile: tuple[int, int], work: Contraction) -> float:
    """Elements of the input that a tile reads, for each of its outputs."""
    kernel = [work.extents[axis] for axis in work.reduction[:2]]
    places = [work.extents[axis] for axis in work.positions[1:]]
    read = 1
    for count, taps, size, many in zip(tile, kernel, work.input_shape[1:3], places, strict=True):
        stride = max(1, round((size - taps) / max(1, many - 1)))
        read *= (count - 1) * stride + taps
    return read / math.prod(tile)

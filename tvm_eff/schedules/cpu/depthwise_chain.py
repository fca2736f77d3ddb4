"""Two depthwise convolutions in one kernel, such as a separated vertical and horizontal one.

A few rows and channels of the first one's result stay in the L1 cache until the second one
has read them. Neither makes a padded copy of its input, as in
:mod:`tvm_eff.schedules.cpu.depthwise_in_place`; a row of the second reads one row of the first,
so that nothing is recomputed.
"""

from __future__ import annotations

import math
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.analysis import Contraction, contractions
from tvm_eff.schedules.cpu.contraction import inline_and_pack, pack_weight, packings_of, row_chunks
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import FLOAT32_BYTES, Target

MAX_DOWN, MAX_ACROSS = 8, 8
MAX_TILES = 6
VECTORS = (4, 2, 1)
"""Channel vectors that are computed together in a row block."""


class DepthwiseChain:
    """The rule for a depthwise convolution that follows another, where caches are private."""

    name = "depthwise_chain"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return tiles of both convolutions, lowest estimated cost first."""
        works = match(func, target)
        if works is None or not works[1].depthwise:
            return []
        first, second = works
        chunks = row_chunks(second, target)
        height = second.extents[second.positions[1]] // chunks
        outputs = max_outputs(target)
        tiles = [
            (down, first_across, across)
            for down in divisors(height, MAX_DOWN)
            for first_across in range(1, min(second.width, MAX_ACROSS) + 1)
            for across in range(1, min(second.width, MAX_ACROSS) + 1)
            if down * max(first_across, across) <= outputs
        ]
        tiles.sort(key=lambda tile: _cost(tile, first, second, target))
        lanes = target.hardware.lanes
        return [
            Candidate.of(
                self.name,
                {
                    "down": down,
                    "ahead": first_across,
                    "across": across,
                    "columns": vectors * lanes,
                    "lanes": lanes,
                    "chunks": chunks,
                },
            )
            for down, first_across, across in tiles[:MAX_TILES]
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
        """Schedule ``main`` as row blocks, each of which goes through both convolutions."""
        first, second = contractions(sch.mod["main"])
        lanes = candidate["lanes"]
        between = blocks_between(sch, first, second)
        assert between is not None, "the workload was matched when the candidate was made"
        main, last, paddings = inline_and_pack(sch, second, packings_of(second, lanes))
        for padding in paddings:
            sch.compute_inline(padding)
        loops = sch.get_loops(main)
        down = sample(sch, [1, 2, 4], candidate["down"])
        across = sample(sch, [1, 2, 4], candidate["across"])
        columns = sample(sch, [lanes], candidate["columns"])
        batch, y, x = (loops[axis] for axis in second.positions)
        chunk, y = sch.split(y, [candidate["chunks"], None])
        y_outer, y_inner = sch.split(y, [None, down])
        x_outer, x_inner = sch.split(x, [None, across])
        f_outer, f = sch.split(loops[second.channel], [None, columns])
        f_vectors, f_lanes = sch.split(f, [None, lanes])
        tile = [*(loops[axis] for axis in second.reduction), y_inner, x_inner]
        sch.reorder(batch, chunk, y_outer, f_outer, x_outer, f_vectors, *tile, f_lanes)
        sch.reverse_compute_at(last, f_vectors, preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, f_vectors), lanes)
        sch.vectorize(f_lanes)
        for loop in tile:
            sch.unroll(loop)
        # Before the first convolution is moved inside, which TVM would treat as a dependence.
        row_block = parallel_rows(sch, batch, chunk, y_outer, candidate["chunks"])
        compute_first_at(sch, first, between[:-1], f_outer, candidate["ahead"], lanes)
        for loop in (row_block, x_outer):
            sch.annotate(loop, "pragma_loop_partition_hint", 1)
        sch.decompose_reduction(main, tile[0])


def max_outputs(target: Target) -> int:
    """Return how many output vectors a tile may keep in registers, next to kernel and loads."""
    return target.hardware.vector_registers // 2


def parallel_rows(sch: Schedule, batch: Any, chunk: Any, y_outer: Any, chunks: int) -> Any:
    """Parallelize over chunks of rows, or over row blocks if there is only one chunk.

    Returns
    -------
    LoopRV
        The loop over row blocks.
    """
    if chunks > 1:
        sch.parallel(sch.fuse(batch, chunk))
        return y_outer
    row_block = sch.fuse(batch, chunk, y_outer)
    sch.parallel(row_block)
    return row_block


def compute_first_at(
    sch: Schedule, work: Contraction, between: list[str], loop: Any, across: int, lanes: int
) -> None:
    """Compute the first convolution at `loop`, for what the second one reads there.

    Parameters
    ----------
    sch
        The schedule.
    work
        The first convolution.
    between
        The names of the elementwise blocks between the two.
    loop
        A loop (LoopRV) of the second one, over row blocks or over channels within one.
    across
        Positions of a row in a register tile.
    lanes
        Channels in a vector.
    """
    main, result, paddings = _inline_and_pack_first(sch, work, between, lanes)
    for padding in paddings:
        sch.compute_inline(padding)
    sch.compute_at(result, loop, preserve_unit_loops=True)
    n, y, x, f = fusion.loops_below(sch, result, loop)
    x_outer, x_inner = sch.split(x, [None, sample(sch, [1, 2, 4], across)])
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


def _inline_and_pack_first(
    sch: Schedule, work: Contraction, between: list[str], columns: int
) -> tuple[Any, Any, list[Any]]:
    """Inline the copies and the epilogue around the first contraction, and pack its weight.

    Returns
    -------
    tuple
        The contraction block (BlockRV), which writes an intermediate buffer; the block that
        writes the second one's input; and the padding producers, still to be scheduled.
    """
    main = sch.get_sblock(work.block)
    paddings = fusion.inline_copies(sch, main)
    for name in between[:-1]:
        sch.compute_inline(sch.get_sblock(name))
    pack_weight(sch, main, work, packings_of(work, columns))
    result = sch.get_sblock(between[-1]) if between else sch.cache_write(main, 0, "global")
    return main, result, paddings


def blocks_between(sch: Schedule, first: Contraction, second: Contraction) -> list[str] | None:
    """Return the names of the blocks between two contractions, or None if they do not match.

    All are elementwise but the last, which pads, possibly by zero elements.
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
    """Return a depthwise convolution and its consumer that reads the same row only, or None."""
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
    """Estimate the loads per output vector."""
    down, first_across, across = tile
    width = second.width
    loads = loads_of((down, first_across), first) + 1 + loads_of((down, across), second)
    tails = sum(-(-width // part) * part / width for part in (first_across, across)) / 2
    rows = down * first.width * target.hardware.lanes * FLOAT32_BYTES
    stalls = 1.0 if rows <= target.hardware.l1d_kib * 1024 else 1.5
    return loads * tails * stalls


def loads_of(tile: tuple[int, int], work: Contraction) -> float:
    """Input elements that a tile reads, per output."""
    kernel = [work.extents[axis] for axis in work.reduction[:2]]
    positions = [work.extents[axis] for axis in work.positions[1:]]
    read = 1
    for count, kernel_size, size, many in zip(
        tile, kernel, work.input_shape[1:3], positions, strict=True
    ):
        stride = max(1, round((size - kernel_size) / max(1, many - 1)))
        read *= (count - 1) * stride + kernel_size
    return read / math.prod(tile)

"""A depthwise convolution and the pointwise one that consumes it, in one kernel.

A few rows of the first one's result stay in the near caches until the register tiles of the
second, as in :mod:`tvm_eff.schedules.cpu.convolution`, have read them.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules.analysis import contractions
from tvm_eff.schedules.cpu.contraction import inline_and_pack, packings_of, row_chunks
from tvm_eff.schedules.cpu.convolution import ROWS_OUTER, Nest, register_tile, tiles
from tvm_eff.schedules.cpu.depthwise_chain import (
    blocks_between,
    compute_first_at,
    loads_of,
    match,
    max_outputs,
    parallel_rows,
)
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import Target

MAX_DOWN, MAX_FIRST_ACROSS = 8, 8
MAX_TILES = 3


class DepthwisePointwise:
    """The rule for a pointwise convolution after a depthwise one, where caches are private."""

    name = "depthwise_pointwise"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return register tiles and heights of row blocks."""
        works = match(func, target)
        if works is None or works[1].depthwise or works[1].groups != 1:
            return []
        first, second = works
        chunks = row_chunks(second, target)
        height = second.extents[second.positions[1]] // chunks
        found = tiles(second.width, second.channels, second.depth, target)[:MAX_TILES]
        return [
            Candidate.of(
                self.name,
                {
                    "down": down,
                    "ahead": min(
                        range(
                            1, min(second.width, MAX_FIRST_ACROSS, max_outputs(target) // down) + 1
                        ),
                        key=lambda first_across: loads_of((down, first_across), first),
                    ),
                    "vector": target.hardware.lanes,
                    "rows": tile.rows,
                    "columns": tile.columns,
                    "lanes": tile.lanes,
                    "unroll": tile.unroll,
                    "chunks": chunks,
                },
            )
            for tile in found
            for down in reversed(divisors(height, MAX_DOWN))
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the layouts of both weights."""
        first, second = contractions(func)
        return [
            *packings_of(first, candidate["vector"]),
            *packings_of(second, candidate["columns"]),
        ]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as row blocks, each of which goes through both convolutions."""
        first, second = contractions(sch.mod["main"])
        between = blocks_between(sch, first, second)
        assert between is not None, "the workload was matched when the candidate was made"
        main, last, paddings = inline_and_pack(
            sch, second, packings_of(second, candidate["columns"])
        )
        for padding in paddings:
            sch.compute_inline(padding)
        loops = sch.get_loops(main)
        *kernel, depth = (loops[axis] for axis in second.reduction)
        batch, y, x = (loops[axis] for axis in second.positions)
        chunk, y = sch.split(y, [candidate["chunks"], None])
        y_outer, y_inner = sch.split(y, [None, sample(sch, [1, 2, 4], candidate["down"])])
        nest = Nest(
            chunks=(batch, chunk, y_outer),
            outer=(y_inner,),
            position=x,
            channel=loops[second.channel],
            kernel=tuple(kernel),
            depth=depth,
        )
        register_tile(sch, main, last, nest, second.input_read, candidate, ROWS_OUTER, target)
        row_block = parallel_rows(sch, batch, chunk, y_outer, candidate["chunks"])
        compute_first_at(
            sch, first, between[:-1], row_block, candidate["ahead"], candidate["vector"]
        )
        sch.annotate(row_block, "pragma_loop_partition_hint", 1)
        sch.decompose_reduction(main, kernel[0])

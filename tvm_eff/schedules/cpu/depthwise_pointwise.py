"""A depthwise convolution and the pointwise one behind it, in one kernel.

A few rows of the first one's result stay in the nearest caches until the register tiles of
the second, as in :mod:`tvm_eff.schedules.cpu.convolution`, have read them.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules.analysis import contractions
from tvm_eff.schedules.cpu.contraction import packings_of, row_shares, separate
from tvm_eff.schedules.cpu.convolution import ROWS_OUTER, Nest, register_tile, tiles
from tvm_eff.schedules.cpu.depthwise_chain import (
    blocks_between,
    compute_ahead,
    loads_of,
    match,
    most_outputs,
    parallel_rows,
)
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import Target

MOST_DOWN, MOST_AHEAD = 8, 8
MOST_TILES = 3


class DepthwisePointwise:
    """The rule for a pointwise convolution behind a depthwise one, where caches are private."""

    name = "depthwise_pointwise"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return register tiles and heights of bands."""
        works = match(func, target)
        if works is None or works[1].depthwise or works[1].groups != 1:
            return []
        first, second = works
        shares = row_shares(second, target)
        height = second.extents[second.positions[1]] // shares
        found = tiles(second.width, second.channels, second.depth, target)[:MOST_TILES]
        return [
            Candidate.of(
                self.name,
                {
                    "down": down,
                    "ahead": min(
                        range(1, min(second.width, MOST_AHEAD, most_outputs(target) // down) + 1),
                        key=lambda ahead: loads_of((down, ahead), first),
                    ),
                    "vector": target.hardware.lanes,
                    "rows": tile.rows,
                    "columns": tile.columns,
                    "lanes": tile.lanes,
                    "unroll": tile.unroll,
                    "shares": shares,
                },
            )
            for tile in found
            for down in reversed(divisors(height, MOST_DOWN))
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the layouts of both weights."""
        first, second = contractions(func)
        return [
            *packings_of(first, candidate["vector"]),
            *packings_of(second, candidate["columns"]),
        ]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as bands of rows, each of which goes through both convolutions."""
        first, second = contractions(sch.mod["main"])
        between = blocks_between(sch, first, second)
        assert between is not None, "the workload was matched when the candidate was made"
        main, last, paddings = separate(sch, second, candidate["columns"])
        for padding in paddings:
            sch.compute_inline(padding)
        loops = sch.get_loops(main)
        *kernel, depth = (loops[axis] for axis in second.reduction)
        batch, y, x = (loops[axis] for axis in second.positions)
        share, y = sch.split(y, [candidate["shares"], None])
        y_outer, y_inner = sch.split(y, [None, sample(sch, [1, 2, 4], candidate["down"])])
        nest = Nest(
            shares=(batch, share, y_outer),
            outer=(y_inner,),
            places=x,
            channel=loops[second.channel],
            kernel=tuple(kernel),
            depth=depth,
        )
        register_tile(sch, main, last, nest, second.input_read, candidate, ROWS_OUTER, target)
        band = parallel_rows(sch, batch, share, y_outer, candidate["shares"])
        compute_ahead(sch, first, between[:-1], band, candidate["ahead"], candidate["vector"])
        sch.annotate(band, "pragma_loop_partition_hint", 1)
        sch.decompose_reduction(main, kernel[0])

"""Pooling and other reductions over positions: one channel vector per work-item."""

from __future__ import annotations

import math
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.cpu.pooling import output_extents
from tvm_eff.schedules.gpu.threads import Group, groups, launch, widths
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, sample
from tvm_eff.targets import Target

MAX_UNROLLED = 16
"""Iterations of the innermost loops that are unrolled."""


class GpuPooling:
    """The rule for a single reduction whose innermost axis of the output is spatial."""

    name = "gpu_pooling"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the work-group sizes to try."""
        extents = output_extents(func)
        if extents is None:
            return []
        *outer, channels = extents
        return [
            Candidate.of(
                self.name,
                {"lanes": width.lanes, "group_y": group.y, "group_x": group.x},
            )
            for width in widths(channels, target)
            for group in groups(channels // width.lanes, math.prod(outer), width, target)
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return an empty list: there is no weight."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``: each work-item reduces one channel vector."""
        main = analysis.reductions(sch)[0]
        for producer in sch.get_producers(main):
            sch.compute_inline(producer)
        last = fusion.inline_epilogue(sch, main)
        if last is None:
            last = sch.cache_write(main, 0, "global")
        sch.set_scope(main, 0, "local")
        split = sum(v.iter_type == analysis.SPATIAL for v in sch.get(main).iter_vars)
        loops = sch.get_loops(main)
        outer, kernel = list(loops[: split - 1]), list(loops[split:])
        lanes = sample(sch, [1, 2, 4], candidate["lanes"])
        f_outer, f_lanes = sch.split(loops[split - 1], [None, lanes])
        sch.reorder(*outer, f_outer, *kernel, f_lanes)
        positions = sch.fuse(*outer) if outer else sch.add_unit_loop(f_outer)
        group = Group(candidate["group_x"], candidate["group_y"])
        _, item = launch(sch, positions, f_outer, group)
        sch.reverse_compute_at(last, item, preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, item), candidate["lanes"])
        sch.vectorize(f_lanes)
        _unroll_inner(sch, kernel)
        sch.decompose_reduction(main, kernel[0])


def _unroll_inner(sch: Schedule, kernel: list[Any]) -> None:
    """Unroll innermost loops of up to :data:`MAX_UNROLLED` iterations in all."""
    count = 1
    for loop in reversed(kernel):
        count *= int(sch.get(loop).extent)
        if count > MAX_UNROLLED:
            return
        sch.unroll(loop)

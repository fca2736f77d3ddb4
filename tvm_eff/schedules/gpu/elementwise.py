"""Elementwise functions, concatenation and layout changes: one vector per work-item."""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis
from tvm_eff.schedules.cpu.elementwise import Elementwise
from tvm_eff.schedules.gpu.threads import GROUP, SMALL_GROUP, WIDE_LANES, gpu_of, launch_flat
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, sample, vector_length
from tvm_eff.targets import Target


class GpuElementwise:
    """The rule for PrimFuncs whose blocks are all elementwise."""

    name = "gpu_elementwise"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the work-group sizes to try."""
        if not Elementwise().candidates(func, target):
            return []
        large = min(GROUP, gpu_of(target).work_group)
        choices = [(target.lanes, large), (WIDE_LANES, SMALL_GROUP), (target.lanes, SMALL_GROUP)]
        if _lengths(func, WIDE_LANES) == _lengths(func, target.lanes):
            del choices[1]
        return [
            Candidate.of(self.name, {"lanes": lanes, "group_x": size}) for lanes, size in choices
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return an empty list: there is no weight."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``: inline everything into the outputs, one kernel for each."""
        for block in analysis.blocks(sch):
            if not analysis.writes_output(sch, block):
                sch.compute_inline(block)
        for block in analysis.blocks(sch):
            schedule_elementwise(sch, block, candidate["lanes"], candidate["group_x"])


def _lengths(func: PrimFunc, lanes: int) -> list[int]:
    """Return the vector length, up to `lanes`, of the writes of each output."""
    sch = analysis.inspect(func)
    writers = [sch.get(each) for each in analysis.blocks(sch) if analysis.writes_output(sch, each)]
    innermost = [int(each.iter_vars[-1].dom.extent) for each in writers if each.iter_vars]
    return [vector_length(extent, lanes) for extent in innermost]


def schedule_elementwise(sch: Schedule, block: Any, lanes: int, size: int) -> None:
    """Assign each vector of an elementwise block to a work-item, in groups of `size`."""
    if not sch.get_loops(block):
        launch_flat(sch, sch.add_unit_loop(block), 1)
        return
    *outer, inner = sch.get_loops(block)
    length = vector_length(int(sch.get(inner).extent), lanes)
    inner, vector = sch.split(inner, [None, sample(sch, [1, 2, 4], length)])
    sch.vectorize(vector)
    launch_flat(sch, sch.fuse(*outer, inner), size)

"""Fallbacks for what no other GPU rule matches: normalizations, unusual reductions.

Every block becomes a kernel with one work-item per output element. The extra rule applies
dlight's schedules, which come with TVM and reduce by a whole work-group.
"""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule, dlight
from tvm.tirx import PrimFunc

from tvm_eff.errors import SpaceError
from tvm_eff.schedules import analysis
from tvm_eff.schedules.cpu.fallback import is_inlined
from tvm_eff.schedules.gpu.elementwise import schedule_elementwise
from tvm_eff.schedules.gpu.threads import GROUP, SMALL_GROUP, gpu_of, launch_flat
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, sample
from tvm_eff.targets import Target

DLIGHT = (dlight.gpu.Reduction, dlight.gpu.GeneralReduction)
"""dlight's rules for reductions. Its rule for matrix products is left out: it also matches
depthwise convolutions."""


DLIGHT_FALLBACK = dlight.gpu.Fallback()
"""TVM's default schedule: one work-item per element."""


class GpuFallback:
    """The last rule of the table: one kernel per block, for any function with loops."""

    name = "gpu_fallback"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the work-group sizes to try, if the schedule applies."""
        large = min(GROUP, gpu_of(target).work_group)
        found = [Candidate.of(self.name, {"group_x": size}) for size in (large, SMALL_GROUP)]
        return [each for each in found if _applies(self, func, each, target)]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return nothing: the weights stay as they are."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule the blocks of ``main`` one by one."""
        for block in analysis.blocks(sch):
            if is_inlined(sch, block):
                sch.compute_inline(block)
        for block in analysis.blocks(sch):
            _schedule(sch, block, candidate["group_x"], target)


class Dlight:
    """The extra rule that applies dlight's schedules to reductions."""

    name = "dlight"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the dlight rules that apply, if the function has a reduction."""
        if analysis.contraction(func) is not None:
            return []
        if not analysis.reductions(analysis.inspect(func)):
            return []
        found = [Candidate.of(self.name, {"dlight": number}) for number in range(len(DLIGHT))]
        return [each for each in found if _applies(self, func, each, target)]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return nothing: the weights stay as they are."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` with a dlight rule."""
        sample(sch, range(len(DLIGHT)), candidate["dlight"])
        apply_dlight(sch, DLIGHT[candidate["dlight"]](), target)


def apply_dlight(sch: Schedule, rule: Any, target: Target) -> None:
    """Schedule ``main`` with a dlight rule, by replaying its trace.

    Raises
    ------
    SpaceError
        The rule does not match the function, or leaves a block without thread bindings.
    """
    func = analysis.schedule(sch.mod["main"]).mod["main"]
    with target.tvm_target() as used:
        found = rule.apply(func, used, False)
    if found is None or isinstance(found, list) or not runs_on_threads(found):
        raise SpaceError(f"dlight's {type(rule).__name__} does not match the function")
    found.trace.apply_to_schedule(sch, remove_postproc=False)


def apply_default(sch: Schedule, target: Target) -> None:
    """Schedule ``main`` as TVM does by default, with one work-item per element.

    Raises
    ------
    SpaceError
        TVM cannot schedule it.
    """
    # dlight applies the epilogue of a reduction of extent one twice.
    degenerate = any(
        analysis.reduction_extent(sch, block) == 1 for block in analysis.reductions(sch)
    )
    try:
        if not degenerate:
            apply_dlight(sch, DLIGHT_FALLBACK, target)
            return
    except SpaceError:
        pass
    size = min(GROUP, gpu_of(target).work_group)
    GpuFallback().apply(sch, Candidate.of(GpuFallback.name, {"group_x": size}), target)


def runs_on_threads(sch: Schedule) -> bool:
    """Whether every block of ``main`` has a thread binding."""
    return all(
        any(sch.get(loop).thread_binding is not None for loop in sch.get_loops(block))
        for block in analysis.blocks(sch)
    )


def _applies(rule: Any, func: PrimFunc, candidate: Candidate, target: Target) -> bool:
    sch = analysis.schedule(func)
    if not analysis.blocks(sch):
        return False
    try:
        rule.apply(sch, candidate, target)
    except Exception:  # TVM raises its own types; then it is no candidate
        return False
    return runs_on_threads(sch)


def _schedule(sch: Schedule, block: Any, size: int, target: Target) -> None:
    statement = sch.get(block)
    kinds = [v.iter_type for v in statement.iter_vars]
    if analysis.is_leaf(sch, block) and not analysis.is_reduction(statement):
        schedule_elementwise(sch, block, target.lanes, size)
        return
    loops = sch.get_loops(block)
    spatial = [
        loop for loop, kind in zip(loops, kinds, strict=True) if kind == analysis.SPATIAL
    ] or [sch.add_unit_loop(block)]
    summed = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != analysis.SPATIAL]
    sch.reorder(*spatial, *summed)
    launch_flat(sch, sch.fuse(*spatial), size)
    if summed and analysis.is_reduction(statement):
        sch.decompose_reduction(block, summed[0])

"""What no other rule for GPUs knows: normalizations, reductions of odd shape, dlight's own.

Every block becomes a kernel of its own, a work-item for each element of its result. Beside
that stand the schedules of dlight, which come with TVM: reductions by a whole work-group.
"""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule, dlight
from tvm.tirx import PrimFunc

from tvm_eff.errors import SpaceError
from tvm_eff.schedules import analysis
from tvm_eff.schedules.cpu.fallback import is_inlined
from tvm_eff.schedules.gpu.elementwise import spread
from tvm_eff.schedules.gpu.threads import FEW, GROUP, gpu_of, launch_flat
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, sample
from tvm_eff.targets import Target

DLIGHT = (dlight.gpu.Reduction, dlight.gpu.GeneralReduction)
"""Rules for reductions. Convolutions and dense layers are none of theirs, and the rule for
matrix products is not among them: it takes a depthwise convolution for one."""


PLAIN = dlight.gpu.Fallback()
"""The schedule that TVM gives a function by itself: a work-item for each element."""


class GpuFallback:
    """A kernel for each block: whatever has loops."""

    name = "gpu_fallback"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the sizes of work-groups to try, if the schedule can be applied."""
        most = min(GROUP, gpu_of(target).work_group)
        found = [Candidate.of(self.name, {"group_x": size}) for size in (most, FEW)]
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
    """The schedules of dlight for reductions."""

    name = "dlight"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the rules of dlight that schedule the function for GPUs, if it reduces."""
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
        """Schedule ``main`` by a rule of dlight."""
        sample(sch, range(len(DLIGHT)), candidate["dlight"])
        replay(sch, DLIGHT[candidate["dlight"]](), target)


def replay(sch: Schedule, rule: Any, target: Target) -> None:
    """Schedule ``main`` as a rule of dlight does.

    Raises
    ------
    SpaceError
        The rule does not know the function, or leaves part of it to the processor.
    """
    func = analysis.schedule(sch.mod["main"]).mod["main"]
    with target.tvm_target() as used:
        found = rule.apply(func, used, False)
    if found is None or isinstance(found, list) or not runs_on_threads(found):
        raise SpaceError(f"dlight's {type(rule).__name__} does not know the function")
    found.trace.apply_to_schedule(sch, remove_postproc=False)


def apply_plain(sch: Schedule, target: Target) -> None:
    """Schedule ``main`` as TVM does by itself, with a work-item for each element.

    Raises
    ------
    SpaceError
        TVM cannot schedule it.
    """
    # dlight adds twice what stands behind a sum of one term.
    degenerate = any(analysis.terms(sch, block) == 1 for block in analysis.reductions(sch))
    try:
        if not degenerate:
            replay(sch, PLAIN, target)
            return
    except SpaceError:
        pass
    size = min(GROUP, gpu_of(target).work_group)
    GpuFallback().apply(sch, Candidate.of(GpuFallback.name, {"group_x": size}), target)


def runs_on_threads(sch: Schedule) -> bool:
    """Whether every block of ``main`` is computed by work-items."""
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
    except Exception:  # TVM raises its own types; what it cannot do is no candidate
        return False
    return runs_on_threads(sch)


def _schedule(sch: Schedule, block: Any, size: int, target: Target) -> None:
    statement = sch.get(block)
    kinds = [v.iter_type for v in statement.iter_vars]
    if analysis.is_plain(sch, block) and not analysis.is_reduction(statement):
        spread(sch, block, target.lanes, size)
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

"""Fallback for what no other rule matches: softmax, normalizations, unusual reductions.

Every block is scheduled separately: outer loops parallel, the innermost loop vectorized
where its accesses are contiguous. There is nothing to tune.
"""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import BufferStore, PrimFunc

from tvm_eff.errors import SpaceError
from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, vector_length
from tvm_eff.targets import Target


class Fallback:
    """The last rule of the table: any function with loops."""

    name = "fallback"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the only candidate, if it applies."""
        candidate = Candidate.of(self.name, {})
        sch = analysis.schedule(func)
        if not analysis.blocks(sch):
            return []
        try:
            self.apply(sch, candidate, target)
        except Exception:  # TVM raises its own types; then the function stays unscheduled
            return []
        return [candidate]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return an empty list: weights keep their layout."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule the blocks of ``main`` one by one.

        Raises
        ------
        SpaceError
            There is no loop to parallelize.
        """
        for block in analysis.blocks(sch):
            if is_inlined(sch, block):
                sch.compute_inline(block)
        parallel = [_schedule(sch, block, target) for block in analysis.blocks(sch)]
        if not any(parallel):
            raise SpaceError("the kernel has no loop to run in parallel")


def is_inlined(sch: Schedule, block: Any) -> bool:
    """Whether inlining a block recomputes nothing: it has one consumer that reads it once."""
    consumers = sch.get_consumers(block)
    return (
        len(consumers) == 1
        and analysis.is_leaf(sch, block)
        and not analysis.is_reduction(sch.get(block))
        and not analysis.writes_output(sch, block)
        and analysis.iterations(sch, consumers[0]) <= analysis.iterations(sch, block)
    )


def _schedule(sch: Schedule, block: Any, target: Target) -> bool:
    statement = sch.get(block)
    loops = sch.get_loops(block)
    kinds = [v.iter_type for v in statement.iter_vars]
    if len(loops) != len(kinds) or not loops:
        return False
    if not analysis.is_leaf(sch, block):
        return _parallel(sch, loops, sum(kind == analysis.SPATIAL for kind in kinds))
    if not analysis.is_reduction(statement):
        fusion.schedule_elementwise(sch, block, target.hardware.lanes)
        return True
    split = sum(kind == analysis.SPATIAL for kind in kinds)
    if kinds != sorted(kinds) or not split:
        return False
    last = int(sch.get(loops[split - 1]).extent)
    length = vector_length(last, target.hardware.lanes)
    if length == 1 or not isinstance(statement.body, BufferStore):
        return _parallel(sch, loops, split)
    _, vector = sch.split(loops[split - 1], [None, length])
    loops = sch.get_loops(block)
    kernel = loops[split + 1 :]
    sch.reorder(*loops[:split], *kernel, vector)
    sch.parallel(sch.fuse(*loops[:split]))
    sch.vectorize(vector)
    sch.decompose_reduction(block, kernel[0])
    return True


def _parallel(sch: Schedule, loops: list[Any], count: int) -> bool:
    if not count:
        return False
    sch.parallel(sch.fuse(*loops[:count]))
    return True

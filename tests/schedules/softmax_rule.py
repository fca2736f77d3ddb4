"""A minimal rule, as a user would add it: one file for one operator."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import Candidate, Packing, analysis
from tvm_eff.schedules.rule import sample
from tvm_eff.targets import Target


class Softmax:
    """Parallelizes the rows of a softmax and unrolls the innermost loop."""

    name = "softmax"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        if len(analysis.reductions(analysis.inspect(func))) != 2:
            return []
        return [Candidate.of(self.name, {"unroll": unroll}) for unroll in (1, 4)]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        last = analysis.blocks(sch)[-1]
        rows, columns = sch.get_loops(last)
        _, inner = sch.split(columns, [None, sample(sch, [1, 4], candidate["unroll"])])
        sch.unroll(inner)
        sch.parallel(rows)

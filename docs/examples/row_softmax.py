"""Softmax over the last axis, a row at a time: one row goes through all steps in the cache."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import Candidate, Packing, analysis
from tvm_eff.schedules.rule import sample
from tvm_eff.targets import Target

UNROLLS = (4, 1)


class RowSoftmax:
    """The rule for two reductions over the same rows, a maximum and a sum."""

    name = "row_softmax"
    version = 1
    """To be raised when the rule makes other code of the same candidate."""

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return how far the innermost loops are unrolled, the most promising first."""
        sch = analysis.inspect(func)
        reductions = analysis.reductions(sch)
        last = analysis.blocks(sch)[-1]
        rows = {tuple(_extents(sch, block)[:-1]) for block in (*reductions, last)}
        if len(reductions) != 2 or len(rows) != 1 or rows == {()}:
            return []
        return [Candidate.of(self.name, {"unroll": unroll}) for unroll in UNROLLS]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return an empty list: there is no weight."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Compute what a row needs inside the parallel loop over rows."""
        *before, last = analysis.blocks(sch)
        *rows, columns = sch.get_loops(last)
        row = sch.fuse(*rows)
        sch.parallel(row)
        _unroll(sch, columns, candidate["unroll"])
        # Each block is placed where its consumers already are.
        for block in reversed(before):
            sch.compute_at(block, row, preserve_unit_loops=True)


def _extents(sch: Schedule, block: object) -> list[int]:
    return [int(variable.dom.extent) for variable in sch.get(block).iter_vars]


def _unroll(sch: Schedule, loop: object, unroll: int) -> None:
    # A sampled decision is part of the trace, and so of the record.
    factor = sample(sch, UNROLLS, unroll)
    _, inner = sch.split(loop, [None, factor])
    sch.unroll(inner)

"""Elementwise functions, concatenation and layout changes: functions without reductions."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate
from tvm_eff.targets import Target

MAX_COPIES = 16
"""Times that inlining may duplicate a block."""


class Elementwise:
    """The rule for PrimFuncs whose blocks are all elementwise."""

    name = "elementwise"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the only candidate."""
        sch = analysis.inspect(func)
        blocks = analysis.blocks(sch)
        if not blocks or analysis.reductions(sch) or _copies(sch) > MAX_COPIES:
            return []
        if not all(analysis.is_leaf(sch, block) and sch.get_loops(block) for block in blocks):
            return []
        return [Candidate.of(self.name, {})]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return an empty list: there is no weight."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``: inline everything into the outputs, then parallelize and vectorize."""
        for block in analysis.blocks(sch):
            if not analysis.writes_output(sch, block):
                sch.compute_inline(block)
        for block in analysis.blocks(sch):
            fusion.schedule_elementwise(sch, block, target.hardware.lanes)


def _copies(sch: Schedule) -> int:
    """How often inlining everything duplicates the block that it duplicates most."""
    copies: dict[str, int] = {}
    for block in reversed(analysis.blocks(sch)):
        consumers = [str(sch.get(c).name_hint) for c in sch.get_consumers(block)]
        own = 1 if analysis.writes_output(sch, block) else sum(copies[c] for c in consumers)
        copies[str(sch.get(block).name_hint)] = own
    return max(copies.values())

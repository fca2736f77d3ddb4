"""Elementwise functions, concatenation and layout changes: no reduction anywhere."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate
from tvm_eff.targets import Target

MOST_COPIES = 16


class Elementwise:
    """The rule for PrimFuncs whose blocks are all elementwise."""

    name = "elementwise"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the one schedule there is."""
        sch = analysis.inspect(func)
        blocks = analysis.blocks(sch)
        if not blocks or analysis.reductions(sch) or _copies(sch) > MOST_COPIES:
            return []
        if not all(analysis.is_plain(sch, block) for block in blocks):
            return []
        return [Candidate.of(self.name, {})]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return nothing: there is no weight."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``: everything inlined into its outputs, spread over the cores."""
        for block in analysis.blocks(sch):
            if not analysis.writes_output(sch, block):
                sch.compute_inline(block)
        for block in analysis.blocks(sch):
            fusion.spread(sch, block, target.hardware.lanes)


def _copies(sch: Schedule) -> int:
    """How often the block computed most often stands in the function once all are inlined."""
    copies: dict[str, int] = {}
    for block in reversed(analysis.blocks(sch)):
        consumers = [str(sch.get(c).name_hint) for c in sch.get_consumers(block)]
        own = 1 if analysis.writes_output(sch, block) else sum(copies[c] for c in consumers)
        copies[str(sch.get(block).name_hint)] = own
    return max(copies.values())

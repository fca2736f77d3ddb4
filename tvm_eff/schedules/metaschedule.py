"""MetaSchedule's own design space, for what no rule of ours knows how to schedule well.

Softmax, normalizations, products of two activations, reductions to a few values:
MetaSchedule derives sketches from the function and samples their tile sizes, loop
order, parallel and unrolled loops. A candidate is the seed that it samples with.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace
from tvm.tirx import PrimFunc

from tvm_eff.errors import SpaceError
from tvm_eff.schedules import analysis
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate
from tvm_eff.targets import Target

SEEDS = 64
"""Candidates of a function, of which a session measures some."""

_SKETCH_SEED = 1


class MetaSchedule:
    """The rule for functions with a reduction that is neither pooling nor one by weights."""

    name = "metaschedule"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return a candidate a seed; the first ones are of different sketches."""
        if target.tvm["kind"] != "llvm" or not _is_unknown(func):
            return []
        if not _Space.of(func, target).sketches:
            return []
        return [Candidate.of(self.name, {"seed": seed}) for seed in range(1, SEEDS + 1)]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return nothing: the weights stay as they are."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Sample a schedule of ``main`` with the candidate's seed.

        Raises
        ------
        SpaceError
            MetaSchedule would not measure what it sampled.
        """
        space, seed = _Space.of(sch.mod["main"], target), candidate["seed"]
        sketch = space.sketches[seed % len(space.sketches)].trace
        sch.seed(seed)
        # Without the sketch's decisions, which are sampled anew.
        Trace(sketch.insts, {}).apply_to_schedule(sch, remove_postproc=True)
        sch.enter_postproc()
        if not all(each.apply(sch) for each in space.processors):
            raise SpaceError("MetaSchedule's postprocessors refuse what it sampled")


def _is_unknown(func: PrimFunc) -> bool:
    """Whether there is a reduction, and it is not one that a rule was written for."""
    sch = analysis.inspect(func)
    found = analysis.reductions(sch)
    if not found or analysis.contractions(func):
        return False
    block = sch.get(found[0])
    alone = len(found) == 1 and analysis.epilogue(sch, found[0]) is not None
    spatial = any(v.iter_type == analysis.SPATIAL for v in block.iter_vars)
    return not (alone and spatial and len(block.reads) == 1)


@dataclass(frozen=True)
class _Space:
    """MetaSchedule's sketches of a function, and what follows each sample."""

    sketches: list[Schedule]
    processors: list[ms.Postproc]

    @staticmethod
    def of(func: PrimFunc, target: Target) -> _Space:
        # Of a copy: TVM 0.27 schedules in place some of what it is given.
        mod = analysis.schedule(func).mod
        # Custom rules are other targets', and only warn here that they are unknown.
        rules = [
            each
            for each in ms.ScheduleRule.create("llvm")
            if not isinstance(each, ms.schedule_rule.ApplyCustomRule)
        ]
        # There are no weights to pack.
        processors = [
            each
            for each in ms.Postproc.create("llvm")
            if not isinstance(each, ms.postproc.RewriteLayout)
        ]
        generator = ms.space_generator.PostOrderApply(
            sch_rules=rules, postprocs=processors, mutator_probs={}
        )
        _initialize(generator, mod, target)
        return _Space(list(generator.generate_design_space(mod)), processors)


def _initialize(generator: ms.SpaceGenerator, mod: tvm.IRModule, target: Target) -> None:
    """Tell the rules and postprocessors of a generator what they work on.

    What the constructor of TVM's TuneContext does, but for importing every target's
    tensor intrinsics first, which takes 14 s and serves none of these rules.
    """
    make = tvm.get_global_func("s_tir.meta_schedule.TuneContext")
    initialize = tvm.get_global_func("s_tir.meta_schedule.TuneContextInitialize")
    initialize(make(mod, target.tvm_target(), generator, None, "main", 1, _SKETCH_SEED, None))

"""MetaSchedule's own design space, for functions without a specialized rule.

Softmax, normalizations, products of two activations, reductions to a few values:
MetaSchedule derives sketches from the function and samples their tile sizes, loop
order, parallel and unrolled loops. A candidate is the sampling seed.
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
"""Candidates per function; a tuning session measures some of them."""

_SKETCH_SEED = 1

_RESAMPLED = 8
"""Samples to try for a candidate, where postprocessors reject the first."""


class MetaSchedule:
    """The rule for functions whose reduction is neither pooling nor a contraction."""

    name = "metaschedule"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return one candidate per seed; the first ones use different sketches."""
        if target.tvm["kind"] != "llvm" or not _is_unknown(func):
            return []
        if not _Space.of(func, target).sketches:
            return []
        return [Candidate.of(self.name, {"seed": seed}) for seed in range(1, SEEDS + 1)]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return an empty list: weights keep their layout."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Sample a schedule of ``main`` with the candidate's seed.

        Raises
        ------
        SpaceError
            MetaSchedule's postprocessors reject its sample and those tried in its place.
        """
        space, seed = _Space.of(sch.mod["main"], target), candidate["seed"]
        # Those that follow are of the same sketch.
        seeds = range(seed, seed + _RESAMPLED * len(space.sketches), len(space.sketches))
        # TVM 0.27 applies some primitives in place: a trial has a function of its own.
        trials = ((each, analysis.schedule(sch.mod["main"])) for each in seeds)
        accepted = next((each for each, trial in trials if space.sample(trial, each)), None)
        if accepted is None:
            raise SpaceError("MetaSchedule's postprocessors reject the sampled schedules")
        space.sample(sch, accepted)


def _is_unknown(func: PrimFunc) -> bool:
    """Whether there is a reduction that no specialized rule matches."""
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
    """MetaSchedule's sketches of a function, and the postprocessors of each sample."""

    sketches: list[Schedule]
    processors: list[ms.Postproc]

    @staticmethod
    def of(func: PrimFunc, target: Target) -> _Space:
        # Of a copy: TVM 0.27 applies some primitives in place.
        mod = analysis.schedule(func).mod
        # Custom rules belong to other targets, and only warn here that they are unknown.
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

    def sample(self, sch: Schedule, seed: int) -> bool:
        """Schedule ``main`` by a seed's sample; return whether the postprocessors accept it."""
        sketch = self.sketches[seed % len(self.sketches)].trace
        sch.seed(seed)
        # Without the sketch's decisions, which are resampled.
        Trace(sketch.insts, {}).apply_to_schedule(sch, remove_postproc=True)
        sch.enter_postproc()
        return all(each.apply(sch) for each in self.processors)


def _initialize(generator: ms.SpaceGenerator, mod: tvm.IRModule, target: Target) -> None:
    """Initialize the rules and postprocessors of a generator with a TuneContext.

    The constructor of TVM's TuneContext does the same, but first imports every target's
    tensor intrinsics, which takes 14 s and which none of these rules uses.
    """
    make = tvm.get_global_func("s_tir.meta_schedule.TuneContext")
    initialize = tvm.get_global_func("s_tir.meta_schedule.TuneContextInitialize")
    initialize(make(mod, target.tvm_target(), generator, None, "main", 1, _SKETCH_SEED, None))

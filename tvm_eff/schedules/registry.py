"""The registry of schedule rules: the first matching rule and the extra rules apply."""

from __future__ import annotations

import itertools
import math

import numpy as np
import tvm_ffi
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.errors import SpaceError
from tvm_eff.schedules import analysis, gpu
from tvm_eff.schedules.cpu.amx_tile import AmxTile
from tvm_eff.schedules.cpu.convolution import RegisterTile
from tvm_eff.schedules.cpu.depthwise import Depthwise
from tvm_eff.schedules.cpu.depthwise_bytes import DepthwiseBytes
from tvm_eff.schedules.cpu.depthwise_chain import DepthwiseChain
from tvm_eff.schedules.cpu.depthwise_in_place import DepthwiseInPlace
from tvm_eff.schedules.cpu.depthwise_pointwise import DepthwisePointwise
from tvm_eff.schedules.cpu.dot_product_tile import DotProductTile
from tvm_eff.schedules.cpu.elementwise import Elementwise
from tvm_eff.schedules.cpu.fallback import Fallback
from tvm_eff.schedules.cpu.first_layer import FirstLayer
from tvm_eff.schedules.cpu.half_sums import computes_in_half, is_of_half
from tvm_eff.schedules.cpu.half_tile import HalfTile
from tvm_eff.schedules.cpu.pointwise import PackedPointwise
from tvm_eff.schedules.cpu.pooling import Pooling
from tvm_eff.schedules.metaschedule import MetaSchedule
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Alternative, Candidate, Rule
from tvm_eff.schedules.strassen.row_blocks import StrassenRowBlocks
from tvm_eff.schedules.strassen.rule import Strassen
from tvm_eff.schedules.winograd.bytes import WinogradBytes
from tvm_eff.schedules.winograd.half import WinogradHalf
from tvm_eff.schedules.winograd.rule import Winograd
from tvm_eff.targets import Target

STRASSEN, STRASSEN_ROW_BLOCKS, WINOGRAD = Strassen(), StrassenRowBlocks(), Winograd()
WINOGRAD_HALF, WINOGRAD_BYTES = WinogradHalf(), WinogradBytes()
METASCHEDULE = MetaSchedule()

REWRITING = (STRASSEN, STRASSEN_ROW_BLOCKS, WINOGRAD, WINOGRAD_BYTES)
"""Rules that schedule an equivalent function, which takes a transformed weight."""

REWRITING_HALVES = (WINOGRAD_HALF,)
"""Those for kernels of float16, whose inputs are rounded when they are transformed."""

RULES: tuple[Rule, ...] = (
    DotProductTile(),
    HalfTile(),
    RegisterTile(),
    DepthwiseBytes(),
    Depthwise(),
    DepthwiseChain(),
    DepthwisePointwise(),
    Pooling(),
    Elementwise(),
    Fallback(),
    METASCHEDULE,
)

EXTRA_RULES: tuple[Rule, ...] = (
    PackedPointwise(),
    DepthwiseInPlace(),
    FirstLayer(),
    AmxTile(),
    STRASSEN,
    STRASSEN_ROW_BLOCKS,
    WINOGRAD,
    WINOGRAD_BYTES,
    METASCHEDULE,
)
"""Rules whose candidates are added to those of the first matching rule."""

EXTRA_RULES_IN_HALF: tuple[Rule, ...] = (
    DepthwiseInPlace(),
    FirstLayer(),
    WINOGRAD_HALF,
    METASCHEDULE,
)
"""Those whose sums may be of float16: the others would sum in float32, more slowly."""

LEADING = (WINOGRAD, WINOGRAD_HALF, WINOGRAD_BYTES)
"""Extra rules whose first candidate is the most promising of all where they gain most.

Direct candidates take 1.5 to 3 times as many instructions on emulated boards, as
benchmarks/rules.py counts them."""

UNSCHEDULED = Candidate("unscheduled", ())
"""The function as imported: the baseline of every schedule, and the last resort.

A GPU kernel needs thread bindings: there it is TVM's default schedule, dlight's fallback.
"""


def candidates(func: PrimFunc, target: Target) -> list[Candidate]:
    """Return the design space of `func` on `target`, the most promising candidate first.

    Parameters
    ----------
    func
        A fused PrimFunc.
    target
        What it will run on.

    Returns
    -------
    list of Candidate
        Empty when no rule matches: then only :data:`UNSCHEDULED` is left.
    """
    rules, extra_rules = (
        (RULES, EXTRA_RULES) if target.gpu is None else (gpu.RULES, gpu.EXTRA_RULES)
    )
    if computes_in_half(func, target):
        extra_rules, target = EXTRA_RULES_IN_HALF, target.in_float16()
    for rule in rules:
        if found := rule.candidates(func, target):
            others = [each.candidates(func, target) for each in extra_rules if each is not rule]
            return _leading_first(_interleaved(found, *others), func)
    return []


def _interleaved(*lists: list[Candidate]) -> list[Candidate]:
    """Merge lists round-robin."""
    rounds = itertools.zip_longest(*lists)
    return [candidate for each in rounds for candidate in each if candidate is not None]


def _leading_first(merged: list[Candidate], func: PrimFunc) -> list[Candidate]:
    """Move the first candidate of a leading rule to the front, if that gains most."""
    leading = {rule.name: rule for rule in LEADING}
    first = next((each for each in merged if each.rule in leading), None)
    if first is None or not leading[first.rule].gains_most(func):
        return merged
    return [first, *(each for each in merged if each != first)]


def rewritten(func: PrimFunc, candidate: Candidate) -> PrimFunc:
    """Return the function that `candidate` schedules: `func`, or an equivalent one.

    An equivalent one takes a transformed weight; see :func:`packings`.
    """
    rules = (*REWRITING, *REWRITING_HALVES)
    rule = next((each for each in rules if each.name == candidate.rule), None)
    return func if rule is None else rule.rewrite(func, candidate)


def transforms_weight(candidate: Candidate) -> bool:
    """Whether `candidate` schedules an equivalent function, whose weight has another size."""
    return any(each.name == candidate.rule for each in (*REWRITING, *REWRITING_HALVES))


def added_weight_bytes(func: PrimFunc, candidate: Candidate) -> int:
    """Return how many bytes more the weight has that `candidate` takes than that of `func`."""
    if not transforms_weight(candidate):
        return 0
    return _parameter_bytes(rewritten(func, candidate)) - _parameter_bytes(func)


def _parameter_bytes(func: PrimFunc) -> int:
    """Bytes of all parameters, of which rewriting changes the weight alone."""
    return sum(
        math.prod(int(extent) for extent in each.shape) * np.dtype(str(each.dtype)).itemsize
        for each in func.params
    )


def alternatives(func: PrimFunc) -> list[Alternative]:
    """Return the equivalent functions that candidates of `func` may schedule instead."""
    rules = REWRITING_HALVES if is_of_half(func) else REWRITING
    return [alternative for rule in rules for alternative in rule.alternatives(func)]


def apply(func: PrimFunc, candidate: Candidate, target: Target) -> Schedule:
    """Return `func` scheduled by `candidate`; the trace holds every decision.

    Raises
    ------
    SpaceError
        No rule has the candidate's name, or its schedule does not apply to the function.
    """
    sch = analysis.schedule(rewritten(func, candidate))
    try:
        if candidate == UNSCHEDULED:
            _apply_unscheduled(sch, target)
        else:
            seen = target.in_float16() if computes_in_half(func, target) else target
            _rule(candidate).apply(sch, candidate, seen)
    except SpaceError:
        raise
    except Exception as error:  # TVM raises its own types, all derived from Exception
        raise SpaceError(f"{candidate} does not apply: {_first_line(error)}") from error
    return sch


def _apply_unscheduled(sch: Schedule, target: Target) -> None:
    if target.gpu is not None:
        gpu.apply_default(sch, target)
        return
    # MetaSchedule treats a record with an empty trace as no record.
    sch.get_sblock("root")


def packings(func: PrimFunc, candidate: Candidate) -> list[Packing]:
    """Return the layouts of the constant weights of `func` that `candidate` changes."""
    return [] if candidate == UNSCHEDULED else _rule(candidate).packings(func, candidate)


def is_known(candidate: Candidate) -> bool:
    """Whether there is a rule that applies `candidate`."""
    return candidate == UNSCHEDULED or _find(candidate) is not None


def rule_version(candidate: Candidate) -> int:
    """Return the version of the rule that applies `candidate`, which says what code it makes.

    Raises
    ------
    SpaceError
        No rule has the candidate's name.
    """
    return 1 if candidate == UNSCHEDULED else getattr(_rule(candidate), "version", 1)


def alternative(func: PrimFunc, candidate: Candidate) -> Alternative | None:
    """Return what stands in the place of `func` where `candidate` schedules another function."""
    scheduled = rewritten(func, candidate)
    if scheduled is func:
        return None
    found = (each for each in alternatives(func) if tvm_ffi.structural_equal(each.func, scheduled))
    return next(found, None)


def _find(candidate: Candidate) -> Rule | None:
    rules = (*RULES, *EXTRA_RULES, *EXTRA_RULES_IN_HALF, *gpu.RULES, *gpu.EXTRA_RULES)
    return next((rule for rule in rules if rule.name == candidate.rule), None)


def _rule(candidate: Candidate) -> Rule:
    rule = _find(candidate)
    if rule is None:
        raise SpaceError(
            f"no rule is called '{candidate.rule}'; the record is from another version"
        )
    return rule


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

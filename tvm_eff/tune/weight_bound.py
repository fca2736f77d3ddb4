"""The fastest candidates whose weights together are no larger than they may be.

Winograd's and Strassen's candidates take their weight transformed, which makes it larger. Each
kernel has some candidates, each with a cost and a size: one of each kernel is chosen so that the
costs are least within the bound. This is the multiple-choice knapsack problem; it is solved exactly
by dynamic programming over the sets that no other set beats in both (Kellerer, Pferschy, Pisinger,
Knapsack Problems, 2004, section 11.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvm_eff import schedules
from tvm_eff.schedules import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune.records.store import Record, RecordStore
from tvm_eff.tune.session import TaskResult, first_that_applies
from tvm_eff.tune.task import Task

_GAINS = {"winograd": 2.3, "winograd_half": 1.7, "winograd_bytes": 2.0}
_GAIN = 1.1
"""How many times faster than others a kernel is taken to be by Winograd's algorithm, and by
Strassen's, where no others were measured: SqueezeNet 1.1 on an emulated Cortex-A72, 2.3 for 3x3
convolutions with 64 -> 256 and 2.2 with 48 -> 192 channels, 1.1 for its classifier, and in int8 2.1
and 2.0; on an emulated Cortex-A76 in float16 1.7 for the former and 1.8 for the latter."""


@dataclass(frozen=True)
class _Option:
    """A candidate of a kernel, with its record if it was measured."""

    candidate: Candidate
    record: Record | None
    cost: float
    added: int


def added_bytes(results: Sequence[TaskResult]) -> int:
    """Return how much larger the weights are because of what was chosen."""
    return sum(_added(each.task, each.candidate) for each in results)


def within_bound(
    results: Sequence[TaskResult], records: RecordStore, target: Target, most: int
) -> list[TaskResult] | None:
    """Choose again, so that weights grow by no more than they may.

    Parameters
    ----------
    results
        What a session found, with the fastest candidate of each kernel.
    records
        What was measured.
    target
        What the kernels run on.
    most
        The bytes by which the weights of all calls together may grow.

    Returns
    -------
    list of TaskResult or None
        In the same order, at the least cost in all; None if that is not possible.
    """
    rate = _rate(results)
    groups = [_options(each, records, target, rate) for each in results]
    chosen = _cheapest(groups, most)
    if chosen is None:
        return None
    return [
        result
        if option.candidate == result.candidate
        else replace(
            result,
            candidate=option.candidate,
            best=option.record,
            is_prior=option.record is not None and records.is_prior(option.record),
        )
        for result, option in zip(results, chosen, strict=True)
    ]


def _options(
    result: TaskResult, records: RecordStore, target: Target, rate: float
) -> list[_Option]:
    """The candidates of a kernel that are worth choosing: none is slower and larger."""
    task = result.task
    value = result.value if math.isfinite(result.value) else rate * task.operations
    best = _Option(
        result.candidate, result.best, value * task.calls, _added(task, result.candidate)
    )
    if best.added <= 0:
        return [best]
    measured = [
        _Option(each.candidate, each, each.value * task.calls, _added(task, each.candidate))
        for each in records.usable(task.workload)
        if schedules.is_known(each.candidate)
    ]
    options = [best, *measured]
    if not any(each.added == 0 and each.candidate != schedules.UNSCHEDULED for each in options):
        plain = first_that_applies(task, _plain(task, records, target), target)
        options.append(_Option(plain, None, _GAINS.get(best.candidate.rule, _GAIN) * best.cost, 0))
    return _worth_choosing(options)


def _plain(task: Task, records: RecordStore, target: Target) -> list[Candidate]:
    """The candidates that take the weight as it is and may work, the most promising first."""
    plain = [
        each
        for each in schedules.candidates(task.func, target)
        if not schedules.transforms_weight(each)
    ]
    found = {each: records.find(task.workload, each) for each in plain}
    return [each for each, record in found.items() if record is None or not record.failure]


def _worth_choosing(options: Sequence[_Option]) -> list[_Option]:
    kept: list[_Option] = []
    for each in sorted(options, key=lambda option: (option.added, option.cost)):
        if not kept or each.cost < kept[-1].cost:
            kept.append(each)
    return kept


@dataclass(frozen=True)
class _Choice:
    """One option of each of the first kernels: the last one, and those before."""

    cost: float
    added: int
    option: _Option | None = None
    before: _Choice | None = None


def _cheapest(groups: Sequence[Sequence[_Option]], most: int) -> list[_Option] | None:
    """One option of each group, at the least cost within the bound."""
    left = sum(map(_least, groups))
    states = [_Choice(0.0, 0)]
    for group in groups:
        left -= _least(group)
        grown = (
            _Choice(state.cost + option.cost, state.added + option.added, option, state)
            for state in states
            for option in group
            if state.added + option.added + left <= most
        )
        states = []
        for each in sorted(grown, key=lambda choice: (choice.added, choice.cost)):
            if not states or each.cost < states[-1].cost:
                states.append(each)
        if not states:
            return None
    return _path(states[-1])


def _least(group: Sequence[_Option]) -> int:
    return min(each.added for each in group)


def _path(last: _Choice) -> list[_Option]:
    found = []
    state: _Choice | None = last
    while state is not None and state.option is not None:
        found.append(state.option)
        state = state.before
    return found[::-1]


def _added(task: Task, candidate: Candidate) -> int:
    return task.calls * schedules.added_weight_bytes(task.func, candidate)


def _rate(results: Sequence[TaskResult]) -> float:
    """What an operation takes in the kernels that were measured, for those that were not."""
    measured = [each for each in results if math.isfinite(each.value)]
    operations = sum(each.task.operations for each in measured)
    return sum(each.value for each in measured) / operations if operations else 1.0

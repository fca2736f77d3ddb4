"""A tuning session: build, measure, check and record the candidates of every task.

What the records already hold is not measured again, so a session that was
interrupted goes on where it stopped, and a second one has nothing to do. Where another
machine, or other code, was tuned, the best few candidates of each task are measured here.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from tvm_eff import schedules
from tvm_eff.device import Device
from tvm_eff.errors import ExecutionError, RecordError, SpaceError
from tvm_eff.schedules import Candidate
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target
from tvm_eff.tune.builder import Builder
from tvm_eff.tune.cost_model import CostModel
from tvm_eff.tune.options import Progress, Silent, TuneOptions
from tvm_eff.tune.records import json_lines
from tvm_eff.tune.records.database import Winner
from tvm_eff.tune.records.store import MEASUREMENTS, Record, RecordStore
from tvm_eff.tune.roofline import least_value, roofline_bound
from tvm_eff.tune.search import Search
from tvm_eff.tune.task import Task
from tvm_eff.tune.task_scheduler import INITIAL_TRIALS, PendingTask, TaskScheduler
from tvm_eff.tune.tie_break import TieBreaker

TRIALS = 16
"""Candidates of a kernel by default, where what is measured is what counts."""

TRIALS_BRIEF = 8
"""The same where loop order hardly changes a value, as with instructions, or where another
device stands in for a GPU, for which its times say little."""

RECHECKED = 3
"""Priors of a kernel that are measured here, where it was tuned elsewhere or with other code."""

RECHECK_SECONDS = 20.0
"""How long that may take for a network, in all."""

ROOM = 1 << 20
"""Bytes that must be free for records: those of a large network."""


@dataclass(frozen=True)
class TaskResult:
    """What a session found for one task.

    Attributes
    ----------
    task
        The task.
    candidate
        What to build it with: the fastest candidate that is right.
    best
        Its record; None if nothing was measured, which only a session without measurements
        leaves so.
    before
        The kernel as imported; None if that was not measured.
    is_prior
        Whether the record of the candidate is of another machine or other code.
    measured, failed
        Candidates on record, and how many of them failed.
    """

    task: Task
    candidate: Candidate
    best: Record | None
    before: Record | None
    is_prior: bool
    measured: int
    failed: int

    @property
    def value(self) -> float:
        """What one call costs; NaN if it was not measured."""
        return math.nan if self.best is None else self.best.value

    @property
    def value_before(self) -> float:
        """What one call of the kernel as imported costs; NaN if it was not measured."""
        return math.nan if self.before is None else self.before.value


def winners(results: Iterable[TaskResult]) -> dict[str, Candidate]:
    """Return the candidates that a library is built with, by their kernels' workloads."""
    return {each.task.workload: each.candidate for each in results}


def tune(
    tasks: Sequence[Task],
    target: Target,
    device: Device,
    records: RecordStore,
    options: TuneOptions | None = None,
    progress: Progress | None = None,
) -> list[TaskResult]:
    """Measure what is not on record yet and return the best of every task.

    Parameters
    ----------
    tasks
        The kernels, the most important first.
    target
        What they run on.
    device
        Where they are measured; it must be open.
    records
        What was measured before, and where to write; of the device's machine.
    options
        How much to try.
    progress
        Told of every candidate.

    Raises
    ------
    DeviceError
        The device is gone; what was measured is on record.
    RecordError
        A record cannot be written; that there is room for many is found out at the start.
    """
    options, progress = options or TuneOptions(), progress or Silent()
    trials = options.trials or _default_trials(device)
    plans = {task.name: _plan(task, target) for task in tasks}
    limits = {name: min(len(plan), 1 + trials) for name, plan in plans.items()}

    for task in tasks:
        _require_possible(task, target, device, records)

    def left() -> list[PendingTask]:
        return [
            _pending(task, plans[task.name], limits[task.name], records, options) for task in tasks
        ]

    pending = left() if options.measure else []
    with ExitStack() as stack:
        if any(each.count for each in pending):
            _require_room(records.folder)
            if stack.enter_context(json_lines.only_session(records.folder)):
                records.refresh()
                pending = left()
        to_measure = sum(each.count for each in pending)
        rechecked = sum(each.count for each in pending if each.recheck)
        progress.started(sum(limits.values()), to_measure, rechecked)
        if to_measure:
            _measure(tasks, plans, pending, target, device, records, options, progress)
    results = [_result(task, plans[task.name], records, target, options) for task in tasks]
    records.write_winners(
        Winner(each.task, each.candidate, each.best.value)
        for each in results
        if each.best is not None
        and each.best.failure is None
        and each.candidate == each.best.candidate
    )
    return results


def _require_possible(task: Task, target: Target, device: Device, records: RecordStore) -> None:
    best = records.best(task.workload)
    least = least_value(task, target, device)
    if best is not None and best.value < least:
        raise RecordError(
            f"{records.folder / MEASUREMENTS}: {best.value:g} {best.unit} for {task.name} by "
            f"{best.candidate} are less than this device can need ({least:g}): nobody measured "
            "that; remove the line, or tune with --logs ANOTHER_FOLDER"
        )


def _plan(task: Task, target: Target) -> list[Candidate]:
    return [schedules.UNSCHEDULED, *schedules.candidates(task.func, target)]


def _default_trials(device: Device) -> int:
    return TRIALS_BRIEF if device.repeatable or device.stands_in else TRIALS


def _measure(
    tasks: Sequence[Task],
    plans: dict[str, list[Candidate]],
    pending: Sequence[PendingTask],
    target: Target,
    device: Device,
    records: RecordStore,
    options: TuneOptions,
    progress: Progress,
) -> None:
    """Measure what is pending: priors within their time, then the rest."""
    begun = time.monotonic()
    bound = roofline_bound(target, device)
    rank = CostModel(tasks, plans, records).rank
    recheck = [each for each in pending if each.recheck]
    explore = [each for each in pending if not each.recheck]

    def scheduler(chosen: Sequence[PendingTask]) -> TaskScheduler:
        return TaskScheduler(
            chosen,
            best=lambda task: _value(records.best(task.workload)),
            bound=bound,
            until_roofline=options.until_roofline,
            rank=rank,
        )

    with (
        scratch_folder() as folder,
        Builder(options.workers, options.build_timeout) as builder,
    ):
        search = Search(target, device, records, builder, folder, progress)
        if recheck:
            seconds = min(options.budget, RECHECK_SECONDS)
            search.run(scheduler(recheck), begun + seconds, initial_trials_always=False)
        if explore:
            search.run(scheduler(explore), begun + options.budget)
        if not device.repeatable:
            tie_breaker = TieBreaker(target, device, records, search)
            for task in tasks:
                tie_breaker.break_ties(task, plans[task.name])


def _require_room(folder: Path) -> None:
    """Find out before the search that its records can be written."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RecordError(
            f"cannot write to the log folder {folder}: {error.strerror}; "
            "make room there, or name another with --logs FOLDER"
        ) from error


def _value(record: Record | None) -> float:
    return math.inf if record is None else record.value


def _pending(
    task: Task,
    plan: Sequence[Candidate],
    limit: int,
    records: RecordStore,
    options: TuneOptions,
) -> PendingTask:
    """Return what is left of at most `limit` measurements of a kernel, and what a bound needs."""
    left = _left(task, plan, limit, records, options.retry_failed)
    soon = left.candidates[: min(left.count, INITIAL_TRIALS)]
    if not options.plain_weights or any(map(_takes_plain_weight, soon)):
        return left
    more = _plain_to_measure(task, plan, records)
    candidates = [*more, *(each for each in left.candidates if each not in set(more))]
    return PendingTask(task, candidates, left.count + len(more), left.recheck)


def _plain_to_measure(
    task: Task, plan: Sequence[Candidate], records: RecordStore
) -> list[Candidate]:
    """Candidates that take the weight as it is, where this machine knows of others only."""
    plain = [each for each in plan if _takes_plain_weight(each)]
    found = {each: records.find(task.workload, each) for each in plain}
    works = any(each is not None and not each.failure for each in found.values())
    if works or not any(map(schedules.transforms_weight, plan)):
        return []
    ranked = [each.candidate for each in records.priors(task.workload)]
    order = {candidate: number for number, candidate in enumerate(ranked)}
    new = [each for each in plain if found[each] is None]
    return sorted(new, key=lambda each: order.get(each, len(order)))[:INITIAL_TRIALS]


def _takes_plain_weight(candidate: Candidate) -> bool:
    return candidate != schedules.UNSCHEDULED and not schedules.transforms_weight(candidate)


def _left(
    task: Task,
    plan: Sequence[Candidate],
    limit: int,
    records: RecordStore,
    retry_failed: bool,
) -> PendingTask:
    """Return what is left of at most `limit` measurements of a kernel.

    Where as many are known from elsewhere, or from other code, the best of them are measured
    here and no others. The first of the plan are measured in any case unless they are known,
    as a design space that was changed may begin with others.
    """
    explored, known = records.explored(task.workload, plan), records.known(task.workload, plan)
    found = [r for each in plan if (r := records.find(task.workload, each)) is not None]
    if retry_failed or all(each.failure for each in found):
        failed = {each.candidate for each in found if each.failure}
        explored, known = explored - failed, known - failed
    first = [each for each in plan[: min(limit, INITIAL_TRIALS)] if each not in known]
    ranked = [each.candidate for each in records.priors(task.workload)]
    priors = [each for each in ranked if each in set(plan)]
    if priors and len(explored) < limit <= len(known) + len(first):
        chosen = [each for each in [*priors[:RECHECKED], *first] if each not in explored]
        return PendingTask(task, chosen, len(chosen), recheck=True)
    left = [each for each in plan if each not in explored]
    order = {candidate: number for number, candidate in enumerate(priors)}
    left.sort(key=lambda each: (each not in first, order.get(each, len(order))))
    return PendingTask(task, left, max(len(first), limit - len(explored)))


def _chosen(
    task: Task,
    plan: Sequence[Candidate],
    best: Record | None,
    is_measured: bool,
    target: Target,
) -> Candidate:
    """Return the best candidate, or unmeasured the most promising one that can be applied."""
    if best is not None and is_measured:
        return best.candidate
    known = [] if best is None else [best.candidate]
    # After the unscheduled kernel, the plan begins with what is most promising.
    return first_that_applies(task, [*known, *plan[1:]], target)


def first_that_applies(task: Task, ordered: Iterable[Candidate], target: Target) -> Candidate:
    """Return the first candidate whose schedule fits a kernel, or to leave it unscheduled."""
    for each in ordered:
        with suppress(SpaceError):
            schedules.apply(task.func, each, target)
            return each
    return schedules.UNSCHEDULED


def _result(
    task: Task,
    plan: Sequence[Candidate],
    records: RecordStore,
    target: Target,
    options: TuneOptions,
) -> TaskResult:
    found = [r for c in plan if (r := records.find(task.workload, c)) is not None]
    best, before = records.best(task.workload), records.find(task.workload, schedules.UNSCHEDULED)
    if before is None:
        elsewhere = records.priors(task.workload)
        before = next((r for r in elsewhere if r.candidate == schedules.UNSCHEDULED), None)
    if best is None and options.measure:
        reasons = {r.failure for r in found if r.failure} or {"nothing was measured"}
        raise ExecutionError(
            f"no candidate of the kernel {task.name} works on {records.folder.parent.name}: "
            + "; ".join(sorted(reasons))
        )
    is_prior = best is not None and records.is_prior(best)
    return TaskResult(
        task=task,
        candidate=_chosen(task, plan, best, options.measure and not is_prior, target),
        best=best,
        before=before,
        is_prior=is_prior,
        measured=len(found),
        failed=sum(r.failure is not None for r in found),
    )

"""A tuning session: build, measure, check and record the candidates of every task.

What the records already hold is not measured again, so a session that was
interrupted goes on where it stopped, and a second one has nothing to do.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tvm_eff import schedules
from tvm_eff.device import Device
from tvm_eff.errors import ExecutionError, RecordError
from tvm_eff.schedules import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune.builder import Builder
from tvm_eff.tune.cost_model import CostModel
from tvm_eff.tune.options import Progress, Silent, TuneOptions
from tvm_eff.tune.records.store import Record, RecordStore
from tvm_eff.tune.roofline import floor_of
from tvm_eff.tune.search import Search
from tvm_eff.tune.task import Task
from tvm_eff.tune.task_scheduler import FIRST, Allocation, Missing
from tvm_eff.tune.tie_break import Remeasurer

TRIALS = 16
"""Candidates of a kernel by default, where what is measured is what counts."""

TRIALS_BRIEF = 8
"""The same where loop order hardly changes a value, as with instructions, or where another
device stands in for a GPU, for which its times say little."""

ROOM = 1 << 20
"""Bytes that must be free for records: those of a large network."""


@dataclass(frozen=True)
class TaskResult:
    """What a session found for one task.

    Attributes
    ----------
    task
        The task.
    before
        The kernel as imported.
    best
        The fastest candidate that is right, the kernel as imported included.
    measured, failed
        Candidates on record, and how many of them failed.
    """

    task: Task
    before: Record
    best: Record
    measured: int
    failed: int


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
        What was measured before, and where to write.
    options
        How much to try.
    progress
        Hears of every candidate.

    Raises
    ------
    DeviceError
        The device is gone; what was measured is on record.
    RecordError
        A record cannot be written; that there is room for many is found out at the start.
    """
    options, progress = options or TuneOptions(), progress or Silent()
    trials = options.trials or _default_trials(device)
    records.measured_on(device.fingerprint)
    plan = {
        task.name: [schedules.UNSCHEDULED, *schedules.candidates(task.func, target)]
        for task in tasks
    }
    most = {name: min(len(candidates), 1 + trials) for name, candidates in plan.items()}
    missing = [_missing(task, plan[task.name], most[task.name], records) for task in tasks]
    to_measure = sum(each.count for each in missing)
    progress.started(sum(most.values()), to_measure)
    if to_measure:
        _require_room(records.folder)
        end = time.monotonic() + options.budget
        allocation = Allocation(
            missing,
            best=lambda task: _value(records.best(task.workload)),
            floor=floor_of(target, device),
            enough=options.until_roofline,
            rank=CostModel(tasks, plan, records).rank,
        )
        with (
            tempfile.TemporaryDirectory(prefix="tvm_eff-") as folder,
            Builder(options.workers, options.build_timeout) as builder,
        ):
            search = Search(target, device, records, builder, Path(folder), progress)
            search.run(allocation, end)
            if device.unit == "seconds":
                remeasurer = Remeasurer(target, device, records, search)
                for task in tasks:
                    remeasurer.settle(task, plan[task.name])
    results = [_result(task, plan[task.name], records) for task in tasks]
    for result in results:
        # What a crash keeps from being committed here is by the next session.
        _commit(result.task, result.best, target, records)
    return results


def _default_trials(device: Device) -> int:
    if device.unit == "instructions":
        return TRIALS_BRIEF
    stands_in = device.opencl_device is not None and device.opencl_device.is_cpu
    return TRIALS_BRIEF if stands_in else TRIALS


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


def _commit(task: Task, record: Record, target: Target, records: RecordStore) -> None:
    if record.failure is not None:
        return
    scheduled = replace(task, func=schedules.rewritten(task.func, record.candidate))
    # Also if it is worse: what won before was measured again, and was not as fast as it seemed.
    if record.value != records.committed(scheduled):
        records.commit(scheduled, record, schedules.apply(task.func, record.candidate, target))


def _value(record: Record | None) -> float:
    return math.inf if record is None else record.value


def _missing(task: Task, plan: Sequence[Candidate], most: int, records: RecordStore) -> Missing:
    """Return what is left of at most `most` measurements of a kernel.

    The first of the plan are measured in any case, as a space that was changed may begin with
    others. What another machine kept comes next, as it may be the fastest here too.
    """
    left = records.missing(task.workload, plan, most)
    first, known = set(plan[: min(most, FIRST)]), records.known(task.workload)
    left.sort(key=lambda each: (each not in first, each not in known))
    count = most - (len(plan) - len(left))
    return Missing(task, left, max(len(first.intersection(left)), count))


def _result(task: Task, plan: Sequence[Candidate], records: RecordStore) -> TaskResult:
    before, best = records.find(task.workload, schedules.UNSCHEDULED), records.best(task.workload)
    found = [r for c in plan if (r := records.find(task.workload, c)) is not None]
    if before is None or best is None:
        reasons = {r.failure for r in found if r.failure} or {"nothing was measured"}
        raise ExecutionError(
            f"no candidate of the kernel {task.name} works on {records.folder.parent.name}: "
            + "; ".join(sorted(reasons))
        )
    return TaskResult(task, before, best, len(found), sum(r.failure is not None for r in found))

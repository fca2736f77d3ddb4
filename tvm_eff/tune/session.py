"""A tuning session: build, measure, check and record the candidates of every task.

What the records already hold is not measured again, so a session that was
interrupted goes on where it stopped, and a second one has nothing to do.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import tvm

from tvm_eff import __version__, space
from tvm_eff.device import Device
from tvm_eff.errors import BuildError, ExecutionError
from tvm_eff.space import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune import worker
from tvm_eff.tune.allocation import Allocation, Share
from tvm_eff.tune.builder import Builder, Job
from tvm_eff.tune.checker import random_inputs
from tvm_eff.tune.floor import floor
from tvm_eff.tune.measurer import measure
from tvm_eff.tune.records import Record, RecordStore
from tvm_eff.tune.task import Task

LARGE_BATCH = 16
"""Candidates built together where building and measuring must take turns."""

REFERENCE_TIMEOUT = 600.0
"""Seconds the unscheduled kernel may take on this machine; without it nothing can be checked."""


@dataclass(frozen=True)
class TuneOptions:
    """How much to try.

    Attributes
    ----------
    trials
        Candidates measured of each task, at most; by default 16 in seconds, and 8 in
        instructions, which loop order hardly changes.
    workers
        Builder processes; the number of cores by default.
    build_timeout
        Seconds a candidate may take to build.
    budget
        Seconds after which nothing more is measured; every kernel gets its first few
        candidates nevertheless. No limit by default.
    """

    trials: int | None = None
    workers: int | None = None
    build_timeout: float = 60.0
    budget: float = math.inf


class Progress(Protocol):
    """Hears what a session does."""

    def started(self, total: int, to_measure: int) -> None:
        """A session with `total` candidates starts; `to_measure` of them are new."""

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        """One candidate was measured, or failed."""


class Silent:
    """Progress nobody hears."""

    def started(self, total: int, to_measure: int) -> None:
        """Do nothing."""

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        """Do nothing."""


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


@dataclass(frozen=True)
class _Pending:
    """A candidate that is being built, and the reference it will be checked with."""

    task: Task
    candidate: Candidate
    library: Path
    built: Job
    reference: Job


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
        A record cannot be written.
    """
    options, progress = options or TuneOptions(), progress or Silent()
    trials = options.trials or (16 if device.unit == "seconds" else 8)
    records.measured_on(device.fingerprint)
    plan = {task.name: _plan(task, target, trials) for task in tasks}
    missing = {task.name: records.missing(task.workload, plan[task.name]) for task in tasks}
    progress.started(sum(map(len, plan.values())), sum(map(len, missing.values())))
    if any(missing.values()):
        end = time.monotonic() + options.budget
        allocation = Allocation(
            [(task, missing[task.name]) for task in tasks],
            best=lambda task: _value(records.best(task.workload)),
            floor=lambda task: floor(task, target, device.unit),
        )
        with (
            tempfile.TemporaryDirectory(prefix="tvm_eff-") as folder,
            Builder(options.workers, options.build_timeout) as builder,
        ):
            session = _Session(target, device, records, builder, Path(folder), progress)
            session.run(allocation, end)
    results = [_result(task, plan[task.name], records) for task in tasks]
    for result in results:
        # Here as well as after each measurement: a crash may fall between the two.
        _commit(result.task, result.best, target, records)
    return results


def _commit(task: Task, record: Record, target: Target, records: RecordStore) -> None:
    if record.failure is not None:
        return
    scheduled = replace(task, func=space.rewritten(task.func, record.candidate))
    if record.value < records.committed(scheduled):
        records.commit(scheduled, record, space.apply(task.func, record.candidate, target))


def _value(record: Record | None) -> float:
    return math.inf if record is None else record.value


def _plan(task: Task, target: Target, trials: int) -> list[Candidate]:
    return [space.UNSCHEDULED, *space.candidates(task.func, target)[:trials]]


def _result(task: Task, plan: Sequence[Candidate], records: RecordStore) -> TaskResult:
    before, best = records.find(task.workload, space.UNSCHEDULED), records.best(task.workload)
    found = [r for c in plan if (r := records.find(task.workload, c)) is not None]
    if before is None or best is None:
        reasons = {r.failure for r in found if r.failure} or {"nothing was measured"}
        raise ExecutionError(
            f"no candidate of the kernel {task.name} works on {records.folder.parent.name}: "
            + "; ".join(sorted(reasons))
        )
    return TaskResult(task, before, best, len(found), sum(r.failure is not None for r in found))


@dataclass
class _Session:
    target: Target
    device: Device
    records: RecordStore
    builder: Builder
    folder: Path
    progress: Progress
    references: dict[str, Job] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self, allocation: Allocation, end: float) -> None:
        """Build ahead while the device measures, unless building would disturb it."""
        disturbs = self.device.unit == "seconds" and self.device.fingerprint.kind == "local"
        ahead, size = (1, LARGE_BATCH) if disturbs else (2, 1)
        batches: list[list[_Pending]] = []
        while True:
            while len(batches) < ahead and (batch := self._next_batch(allocation, end, size)):
                batches.append(batch)
            if not batches:
                return
            batch = batches.pop(0)
            if disturbs:
                for each in batch:
                    each.built.wait()
                    each.reference.wait()
            self._measure_batch(batch)

    def _next_batch(self, allocation: Allocation, end: float, size: int) -> list[_Pending]:
        """Start building at least `size` candidates, if there are as many left."""
        batch: list[_Pending] = []
        while len(batch) < size and (time.monotonic() < end or not allocation.complete):
            share = allocation.next()
            if share is None:
                break
            batch += self._submit(share)
        return batch

    def _submit(self, share: Share) -> list[_Pending]:
        task = share.task
        module = tvm.ir.save_json(task.module)
        if task.name not in self.references:
            self.references[task.name] = self.builder.submit(
                worker.reference, module, task.inputs, task.outputs, timeout=REFERENCE_TIMEOUT
            )
        return [
            self._pending(task, module, candidate, self.references[task.name])
            for candidate in share.candidates
        ]

    def _pending(self, task: Task, module: str, candidate: Candidate, reference: Job) -> _Pending:
        library = self.folder / f"{next(self.numbers)}.so"
        job = worker.BuildJob(module, candidate, self.target, library)
        built = self.builder.submit(worker.build, job)
        return _Pending(task, candidate, library, built, reference)

    def _measure_batch(self, batch: Sequence[_Pending]) -> None:
        inputs: dict[str, list[np.ndarray]] = {}
        for each in batch:
            task = each.task
            if task.name not in inputs:
                inputs = {task.name: random_inputs(task.inputs)}
            record = self._measure(each, inputs[task.name])
            self.records.add(record)
            each.library.unlink(missing_ok=True)
            self.progress.measured(task, record, self.records.best(task.workload))
        for task in {each.task.name: each.task for each in batch}.values():
            best = self.records.best(task.workload)
            if best is not None:
                _commit(task, best, self.target, self.records)

    def _measure(self, pending: _Pending, inputs: Sequence[np.ndarray]) -> Record:
        task, candidate = pending.task, pending.candidate
        values: tuple[float, ...] = ()
        error, failure = None, None
        # Without a reference nothing can be checked: that ends the session.
        expected = pending.reference.result()
        try:
            library = pending.built.result()
            packed = space.pack_inputs(space.packing(task.func, candidate), inputs)
            best = _value(self.records.best(task.workload))
            measurement, error = measure(self.device, task, library, packed, expected, best)
            values = measurement.values
        except (BuildError, ExecutionError) as problem:
            failure = str(problem)
        return Record(
            workload=task.workload,
            task=task.name,
            candidate=candidate,
            unit=self.device.unit,
            values=values,
            failure=failure,
            error=error,
            device=self.device.fingerprint.as_dict(),
            versions={"tvm_eff": __version__, "tvm": tvm.__version__},
        )

"""A tuning session: build, measure, check and record the candidates of every task.

What the records already hold is not measured again, so a session that was
interrupted goes on where it stopped, and a second one has nothing to do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from tvm_eff.tune.builder import Builder, Job
from tvm_eff.tune.checker import random_inputs
from tvm_eff.tune.measurer import measure
from tvm_eff.tune.records import Record, RecordStore
from tvm_eff.tune.task import Task

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
    """

    trials: int | None = None
    workers: int | None = None
    build_timeout: float = 60.0


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
    task: Task
    candidate: Candidate
    library: Path
    built: Job


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
    plan = {task.name: _plan(task, target, trials) for task in tasks}
    missing = {
        task.name: [c for c in plan[task.name] if records.find(task.workload, c) is None]
        for task in tasks
    }
    progress.started(sum(map(len, plan.values())), sum(map(len, missing.values())))
    waiting = [task for task in tasks if missing[task.name]]
    if waiting:
        with (
            tempfile.TemporaryDirectory(prefix="tvm_eff-") as folder,
            Builder(options.workers, options.build_timeout) as builder,
        ):
            session = _Session(target, device, records, builder, Path(folder), progress)
            session.run([(task, missing[task.name]) for task in waiting])
    results = [_result(task, plan[task.name], records) for task in tasks]
    for result in results:
        # Here as well as after each measurement: a crash may fall between the two.
        _commit(result.task, result.best, target, records)
    return results


def _commit(task: Task, record: Record, target: Target, records: RecordStore) -> None:
    if record.failure is None and record.value < records.committed(task):
        records.commit(task, record, space.apply(task.func, record.candidate, target))


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

    def run(self, work: Sequence[tuple[Task, Sequence[Candidate]]]) -> None:
        """Build ahead while the device measures, unless building would disturb it."""
        ahead = 1 if self._building_disturbs() else 2
        batches: list[tuple[Task, list[_Pending], Job]] = []
        queue: Iterator[tuple[Task, Sequence[Candidate]]] = iter(work)
        while True:
            while len(batches) < ahead and (following := next(queue, None)) is not None:
                batches.append(self._submit(*following))
            if not batches:
                return
            self._measure_batch(*batches.pop(0))

    def _building_disturbs(self) -> bool:
        return self.device.unit == "seconds" and self.device.fingerprint.kind == "local"

    def _submit(
        self, task: Task, candidates: Sequence[Candidate]
    ) -> tuple[Task, list[_Pending], Job]:
        module = tvm.ir.save_json(task.module)
        reference = self.builder.submit(
            worker.reference, module, task.inputs, task.outputs, timeout=REFERENCE_TIMEOUT
        )
        pending = []
        for number, candidate in enumerate(candidates):
            library = self.folder / f"{task.name}-{number}.so"
            job = worker.BuildJob(module, candidate, self.target, library)
            pending.append(
                _Pending(task, candidate, library, self.builder.submit(worker.build, job))
            )
        return task, pending, reference

    def _measure_batch(self, task: Task, pending: Sequence[_Pending], reference: Job) -> None:
        expected = reference.result()
        inputs = random_inputs(task.inputs)
        if self._building_disturbs():
            for each in pending:
                each.built.wait()
        for each in pending:
            record = self._measure(each, inputs, expected)
            self.records.add(record)
            _commit(task, record, self.target, self.records)
            each.library.unlink(missing_ok=True)
            self.progress.measured(task, record, self.records.best(task.workload))

    def _measure(
        self, pending: _Pending, inputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]
    ) -> Record:
        task, candidate = pending.task, pending.candidate
        values: tuple[float, ...] = ()
        error, failure = None, None
        try:
            library = pending.built.result()
            packed = space.pack_inputs(space.packing(task.func, candidate), inputs)
            measurement, error = measure(self.device, task, library, packed, expected)
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

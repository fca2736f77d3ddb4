"""The loop of a session: candidates are built in worker processes, measured and recorded."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tvm_eff import schedules
from tvm_eff.device import Device
from tvm_eff.errors import (
    BuildError,
    ExecutionError,
    InterruptedBuildError,
    InterruptedExecutionError,
)
from tvm_eff.schedules import Candidate, Packing
from tvm_eff.targets import Target
from tvm_eff.tune import worker
from tvm_eff.tune.builder import Builder, Job
from tvm_eff.tune.checker import kernel_inputs
from tvm_eff.tune.control import Control
from tvm_eff.tune.options import Progress
from tvm_eff.tune.records.store import Record, RecordStore
from tvm_eff.tune.runner import measure
from tvm_eff.tune.task import Task
from tvm_eff.tune.task_scheduler import Batch, TaskScheduler

LARGE_BATCH = 32
"""Candidates built together where building and measuring must take turns."""

REFERENCE_TIMEOUT = 600.0
"""Seconds the unscheduled kernel may take on this machine; without it nothing can be checked."""

KEPT = 1.1
"""The library of what takes at most this many times as long as the best may be needed again."""


@dataclass(frozen=True)
class _Submission:
    """A candidate that is being built, and the reference it will be checked with."""

    task: Task
    candidate: Candidate
    packings: list[Packing]
    library: Path
    built: Job
    reference: Job


@dataclass
class Search:
    """Builds and measures what it is dealt out.

    Attributes
    ----------
    target
        What candidates are built for.
    device
        Where they are measured.
    records
        Where results are written.
    builder
        Builds them.
    folder
        Where libraries go.
    progress
        Hears of every candidate.
    libraries
        Those of candidates near the best of their kernel.
    """

    target: Target
    device: Device
    records: RecordStore
    builder: Builder
    folder: Path
    progress: Progress
    libraries: dict[tuple[str, Candidate], Path] = field(default_factory=dict)
    references: dict[str, Job] = field(default_factory=dict)
    inputs: dict[str, list[np.ndarray]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    control: Control = field(init=False)

    def __post_init__(self) -> None:
        self.control = Control(self.device, self.records.add)

    def run(
        self, scheduler: TaskScheduler, end: float, *, initial_trials_always: bool = True
    ) -> None:
        """Build ahead while the device measures, unless building would disturb it.

        Parameters
        ----------
        scheduler
            Deals out the candidates.
        end
            When to start no more, in the time of ``time.monotonic``.
        initial_trials_always
            Whether every task gets its first candidates nevertheless.
        """
        disturbs = self.device.disturbed_by_builds
        ahead, size = (1, LARGE_BATCH) if disturbs else (2, 1)
        batches: list[list[_Submission]] = []
        while True:
            while len(batches) < ahead and (
                batch := self._next_batch(scheduler, end, size, initial_trials_always)
            ):
                batches.append(batch)
            if not batches:
                return
            batch = batches.pop(0)
            if disturbs:
                for each in batch:
                    each.built.wait()
                    each.reference.wait()
            self._measure_batch(batch)

    def inputs_of(self, task: Task) -> list[np.ndarray]:
        """Return the inputs that candidates of a kernel are checked with, the same each time."""
        if task.name not in self.inputs:
            # Of one kernel only: those of a large network do not fit into memory.
            self.inputs = {task.name: kernel_inputs(task.inputs)}
        return self.inputs[task.name]

    def build(self, task: Task, module: str, candidate: Candidate) -> tuple[Path, Job]:
        """Start building a candidate and return its library to be."""
        library = self.folder / f"{next(self.numbers)}.so"
        job = worker.BuildJob(module, candidate, self.target, library)
        return library, self.builder.submit(worker.build, job)

    def _next_batch(
        self, scheduler: TaskScheduler, end: float, size: int, initial_trials_always: bool
    ) -> list[_Submission]:
        """Start building at least `size` candidates, if there are as many left."""
        submitted: list[_Submission] = []
        while len(submitted) < size and (
            time.monotonic() < end or (initial_trials_always and not scheduler.warmed_up)
        ):
            batch = scheduler.next_batch()
            if batch is None:
                break
            submitted += self._submit(batch)
        # By task: what the candidates of one kernel have in common stays on the device.
        return sorted(submitted, key=lambda each: each.task.name)

    def _submit(self, batch: Batch) -> list[_Submission]:
        task = batch.task
        module = tvm.ir.save_json(task.module)
        if task.name not in self.references:
            self.references[task.name] = self.builder.submit(
                worker.reference, module, task.inputs, task.outputs, timeout=REFERENCE_TIMEOUT
            )
        reference = self.references[task.name]
        started = [(each, *self.build(task, module, each)) for each in batch.candidates]
        return [
            _Submission(
                task, candidate, schedules.packings(task.func, candidate), library, job, reference
            )
            for candidate, library, job in started
        ]

    def _measure_batch(self, batch: Sequence[_Submission]) -> None:
        for each in batch:
            before = self.control.library
            record, library = self._measure(each)
            best = self.records.best(each.task.workload)
            if best is not None and record.value <= KEPT * best.value:
                self.libraries[each.task.name, each.candidate] = library
            for old in (before, library):
                self._remove_unneeded(old)
            self.progress.measured(each.task, record, best)

    def _remove_unneeded(self, library: Path | None) -> None:
        needed = (self.control.library, *self.libraries.values())
        if library is not None and library not in needed:
            library.unlink(missing_ok=True)

    def _measure(self, submission: _Submission) -> tuple[Record, Path]:
        """Build and run a candidate, a second time where the first says nothing of it."""
        # Without a reference nothing can be checked: that ends the session.
        expected = submission.reference.result()
        try:
            return self._run(submission, expected), submission.library
        except (InterruptedBuildError, InterruptedExecutionError):
            submission = self._again(submission)
        except (BuildError, ExecutionError) as problem:
            return self._failed(submission, problem, own=True), submission.library
        try:
            return self._run(submission, expected), submission.library
        except (BuildError, ExecutionError) as problem:
            own = not isinstance(problem, InterruptedBuildError | InterruptedExecutionError)
            return self._failed(submission, problem, own=own), submission.library

    def _run(self, submission: _Submission, expected: Sequence[np.ndarray]) -> Record:
        task = submission.task
        library = submission.built.result()
        packed = schedules.pack_inputs(submission.packings, self.inputs_of(task))
        known = self.records.best(task.workload)
        best = math.inf if known is None else known.value
        measurement, error = measure(self.device, task, library, packed, expected, best)
        record = self._record(submission, values=measurement.values, error=error)
        self.control.worked(record, task, library, packed)
        return record

    def _again(self, submission: _Submission) -> _Submission:
        """Build a candidate once more."""
        module = tvm.ir.save_json(submission.task.module)
        library, job = self.build(submission.task, module, submission.candidate)
        submission.library.unlink(missing_ok=True)
        return replace(submission, library=library, built=job)

    def _failed(self, submission: _Submission, problem: Exception, *, own: bool) -> Record:
        record = self._record(submission, failure=str(problem))
        self.control.failed(record, own=own)
        return record

    def _record(self, submission: _Submission, **found: Any) -> Record:
        return Record(
            workload=submission.task.workload,
            task=submission.task.name,
            candidate=submission.candidate,
            unit=self.device.unit,
            machine=self.device.identity,
            generation=self.records.generation(submission.candidate),
            **{"values": (), "failure": None, "error": None, **found},
        )

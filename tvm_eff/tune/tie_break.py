"""The best candidates of a kernel measured again side by side, so that luck does not win.

Each was measured at its own time, and the fastest of many alike is the one that
was disturbed least. A candidate that took part has :data:`ROUNDS` values on record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tvm

from tvm_eff import schedules
from tvm_eff.codegen.compile import KERNEL
from tvm_eff.device import Contender, Device
from tvm_eff.errors import BuildError, ExecutionError
from tvm_eff.schedules import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune.records.store import Record, RecordStore
from tvm_eff.tune.search import Search
from tvm_eff.tune.task import Task

ROUNDS = 7
"""Turns of each candidate: more values than a candidate by itself ever has."""

CLOSE = 1.05
"""What takes at most this many times as long as the best may be as fast."""

MOST = 4
"""Candidates that are compared at once, the fastest ones."""

_TURN_MS = 2.0
_ATTEMPTS = 3


@dataclass(frozen=True)
class TieBreaker:
    """Measures again what came out close to the best of its kernel.

    Attributes
    ----------
    target
        What candidates are built for.
    device
        Where they are measured.
    records
        What was found, and where the new values go.
    search
        Has the libraries, or builds them again.
    """

    target: Target
    device: Device
    records: RecordStore
    search: Search

    def break_ties(self, task: Task, plan: Sequence[Candidate]) -> None:
        """Compare until the best of a kernel has been compared with what is close to it."""
        for _ in range(_ATTEMPTS):
            close = self._close(task, plan)
            if len(close) < 2 or all(len(each.values) >= ROUNDS for each in close):
                return
            try:
                self._compare(task, close)
            except (BuildError, ExecutionError):
                # It worked before; what was measured then is still the best there is.
                return

    def _close(self, task: Task, plan: Sequence[Candidate]) -> list[Record]:
        found = [r for c in plan if (r := self.records.find(task.workload, c)) and not r.failure]
        ordered = sorted(found, key=lambda record: record.value)[:MOST]
        return [each for each in ordered if each.value <= CLOSE * ordered[0].value]

    def _compare(self, task: Task, close: Sequence[Record]) -> None:
        inputs = self.search.inputs_of(task)
        contenders = [
            Contender(
                library,
                schedules.pack_inputs(schedules.packings(task.func, each.candidate), inputs),
            )
            for library, each in zip(self._libraries(task, close), close, strict=True)
        ]
        measurements = self.device.compare(
            contenders, KERNEL, task.outputs, rounds=ROUNDS, min_repeat_ms=_TURN_MS
        )
        for record, measurement in zip(close, measurements, strict=True):
            self.records.add(replace(record, values=measurement.values))

    def _libraries(self, task: Task, close: Sequence[Record]) -> list[Path]:
        """Return the libraries; those of an earlier session are built again."""
        kept, module = self.search.libraries, tvm.ir.save_json(task.module)
        missing = [each.candidate for each in close if (task.name, each.candidate) not in kept]
        started = [(each, *self.search.build(task, module, each)) for each in missing]
        for candidate, library, job in started:
            job.result()
            kept[task.name, candidate] = library
        return [kept[task.name, each.candidate] for each in close]

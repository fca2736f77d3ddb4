"""Tuning records on disk: what was measured, and the schedules that won.

A target's folder holds one folder a unit, since seconds and instructions are
never ranked together. In each:

``measurements.jsonl``
    One line for each candidate measured, failures with their reason: the
    workload, the candidate, the unit, the values, the error against the
    reference, the device, the versions. It is what a resumed session reads, and
    all that ships: see ``prune.py``.
``database_workload.json``, ``database_tuning_record.json``
    The winners, in MetaSchedule's own JSON database format; MetaSchedule's field
    ``run_secs`` holds the value in the folder's unit. Written again from the
    measurements where they are missing.

Lines are only ever appended, and reach the disk before the next candidate is
measured. A last line that a crash cut short is dropped with a warning; any other
line that cannot be read is an error that names file and line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

from tvm_eff.device import Fingerprint, Unit
from tvm_eff.errors import RecordError
from tvm_eff.schedules import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune.records import database, json_lines, measurements
from tvm_eff.tune.records.database import RECORDS, WORKLOADS
from tvm_eff.tune.records.measurements import MEASUREMENTS
from tvm_eff.tune.records.record import Machine, Record, digest, machine
from tvm_eff.tune.task import Task

__all__ = ["MEASUREMENTS", "RECORDS", "WORKLOADS", "Record", "RecordStore"]


class RecordStore:
    """The records of one target in one unit.

    Parameters
    ----------
    folder
        The folder of all logs; the target's and the unit's are below it.
    target
        The target.
    unit
        The unit of its values.

    Raises
    ------
    RecordError
        A file cannot be read or written, or holds something else than its records.
    """

    def __init__(self, folder: Path, target: Target, unit: Unit) -> None:
        self.folder = folder / target.log_name / unit
        self._target = target
        self._unit = unit
        self._machine: Machine | None = None
        _make_writable(self.folder)
        with json_lines.locked(self.folder):
            for name in (MEASUREMENTS, WORKLOADS, RECORDS):
                json_lines.repair(self.folder / name)
            found = measurements.read(self.folder / MEASUREMENTS, target.log_name, unit)
            self._winners = database.read(self.folder)
        self._pruned = found.pruned
        self._records: dict[str, dict[Machine, dict[Candidate, Record]]] = {}
        for record in found.records:
            self._remember(record)

    def measured_on(self, device: Fingerprint) -> None:
        """Prefer what was measured on `device` to what other machines measured."""
        self._machine = machine(device.as_dict(), self._unit)

    def find(self, workload: str, candidate: Candidate) -> Record | None:
        """Return what was measured of a candidate, or None.

        Like :meth:`best`, it looks at one machine's measurements.
        """
        return self._comparable(workload).get(candidate)

    def best(self, workload: str) -> Record | None:
        """Return the fastest candidate that computes the right result, or None.

        Values of different machines are never compared. Those of another machine count
        only where this one (see :meth:`measured_on`) has measured nothing that works.
        """
        return min(self.usable(workload), key=lambda record: record.value, default=None)

    def usable(self, workload: str) -> list[Record]:
        """Return what :meth:`best` is the best of: candidates that work, of one machine."""
        return _usable(self._comparable(workload))

    def known(self, workload: str) -> set[Candidate]:
        """Return the candidates of a kernel that were measured and kept, here or elsewhere."""
        machines = self._records.get(workload, {})
        return {candidate for found in machines.values() for candidate in found}

    def missing(
        self, workload: str, plan: Sequence[Candidate], enough: int | None = None
    ) -> list[Candidate]:
        """Return which candidates of `plan` are to be measured.

        There are none if each was measured, here or elsewhere, or was pruned. If there is
        something to measure here, what another machine measured is measured as well, so
        that there is something to compare it with. All are, if what is fastest elsewhere is
        no candidate here: it was made for another number of cores, say.

        Parameters
        ----------
        workload
            The kernel.
        plan
            Its candidates, the most promising first.
        enough
            With as many measured elsewhere, nothing is to be measured here.
        """
        machines, pruned = self._records.get(workload, {}), self._pruned.get(workload, set())
        known = self.known(workload)
        own = known if self._machine is None else set(machines.get(self._machine, ()))
        elsewhere = None if own else self.best(workload)
        if elsewhere is not None and elsewhere.candidate not in plan:
            return list(plan)
        # What one machine has pruned another one may have kept: it counts where neither is this.
        kept = set() if own else known
        left = [each for each in plan if each in kept or digest(each) not in pruned]
        unknown = [each for each in left if each not in known]
        if not own and len(plan) - len(unknown) >= (len(plan) if enough is None else enough):
            return []
        return [each for each in left if each not in own]

    def add(self, record: Record) -> None:
        """Append what was measured.

        Raises
        ------
        RecordError
            It cannot be written: no right, no room.
        """
        line = measurements.encode(self._target.log_name, record)
        with json_lines.locked(self.folder):
            json_lines.append(self.folder / MEASUREMENTS, line)
        self._remember(record)

    def commit(self, task: Task, record: Record, sch: Schedule) -> None:
        """Append the schedule of a winner to the MetaSchedule database.

        Raises
        ------
        RecordError
            It cannot be written.
        """
        winner = ms.database.TuningRecord(
            sch.trace,
            ms.database.Workload(task.module),
            run_secs=[record.value],
            target=self._target.tvm_target(),
            args_info=ms.arg_info.ArgInfo.from_prim_func(task.func),
        )
        database.append(self.folder, winner)
        self._winners.setdefault(task.workload, []).append(winner)

    def committed(self, task: Task) -> float:
        """Return the best value the database holds for a task; infinite if none."""
        winners = self._comparable_winners(task.workload)
        return min((database.value(each) for each in winners), default=math.inf)

    @property
    def database(self) -> ms.Database:
        """The winners, as MetaSchedule's database; what is added to it stays in memory."""
        winners = [each for name in self._winners for each in self._comparable_winners(name)]
        return database.in_memory(winners)

    def _remember(self, record: Record) -> None:
        machines = self._records.setdefault(record.workload, {})
        machines.setdefault(record.machine, {})[record.candidate] = record

    def _comparable(self, workload: str) -> dict[Candidate, Record]:
        """Return the measurements of one machine: this one, or the one that has most."""
        machines = self._records.get(workload, {})
        own = machines.get(self._machine, {}) if self._machine is not None else {}
        if _usable(own):
            return own
        return max(machines.values(), key=lambda found: len(_usable(found)), default={})

    def _comparable_winners(self, workload: str) -> list[ms.database.TuningRecord]:
        """Return the winners that :meth:`best` knows: another machine's would hide them.

        A winner may schedule another function than the kernel that was measured: such a
        function has no measurements of its own, and its value is among all others'.
        """
        measured = [workload] if workload in self._records else self._records
        known = [r.value for each in measured for r in _usable(self._comparable(each))]
        return [
            winner
            for winner in self._winners.get(workload, [])
            if any(math.isclose(database.value(winner), each) for each in known)
        ]


def _usable(found: dict[Candidate, Record]) -> list[Record]:
    return [record for record in found.values() if record.failure is None]


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(
            f"cannot make the log folder {folder}: {error.strerror}; "
            "name another with --logs FOLDER"
        ) from error
    if not os.access(folder, os.W_OK):
        raise RecordError(
            f"the log folder {folder} is not writable; name another with --logs FOLDER"
        )

"""Tuning records on disk: what was measured, where, and with which code.

A target's folder holds one folder a unit, since seconds and instructions are
never ranked together. In each:

``measurements.jsonl``
    One line for each candidate measured, failures with their reason: see
    :mod:`tvm_eff.tune.records.measurements`. It is what a resumed session reads, and
    all that ships: see ``prune.py``.
``database_workload.json``, ``database_tuning_record.json``
    The winners, in MetaSchedule's own JSON database format; MetaSchedule's field
    ``run_secs`` holds the value in the folder's unit. Made from the measurements.

A value holds for one machine and one generation of code. Any other value is a prior: it
says which candidates to measure first, and stands in only where nothing may be measured.

Lines are only ever appended, and reach the disk before the next candidate is
measured. A last line that a crash cut short is dropped with a warning; any other
line that cannot be read is an error that names file and line.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tvm.s_tir import meta_schedule as ms

from tvm_eff import schedules
from tvm_eff.device import Device, MachineIdentity, Unit
from tvm_eff.errors import RecordError
from tvm_eff.schedules import UNSCHEDULED, Candidate
from tvm_eff.targets import Target
from tvm_eff.tune.records import database, json_lines, measurements
from tvm_eff.tune.records.database import RECORDS, WORKLOADS, Winner
from tvm_eff.tune.records.generation import Generation, generation_of
from tvm_eff.tune.records.measurements import MEASUREMENTS
from tvm_eff.tune.records.record import Record, digest
from tvm_eff.tune.task import Task

__all__ = ["MEASUREMENTS", "RECORDS", "WORKLOADS", "Record", "RecordStore"]

Found = dict[Candidate, Record]
Origin = tuple[MachineIdentity, Generation]


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
    machine
        The machine whose values count; without it all are priors.

    Raises
    ------
    RecordError
        A file cannot be read or written, or holds something else than its records.
    """

    def __init__(
        self, folder: Path, target: Target, unit: Unit, machine: MachineIdentity | None = None
    ) -> None:
        self.folder = folder / target.log_name / unit
        self._target = target
        self._unit = unit
        self._machine = machine
        self._generations: dict[str, Generation] = {}
        _make_writable(self.folder)
        self.refresh()

    def refresh(self) -> None:
        """Read again what is on record, which another session may have added to.

        Raises
        ------
        RecordError
            As for the class.
        """
        target, unit = self._target, self._unit
        with json_lines.locked(self.folder):
            json_lines.repair(self.folder / MEASUREMENTS)
            found = measurements.read(self.folder / MEASUREMENTS, target.log_name, unit)
            self._inode = json_lines.inode(self.folder / MEASUREMENTS)
        self._defined = found.defined
        self._own: dict[str, Found] = {}
        self._others: dict[str, dict[Origin, Found]] = {}
        self._pruned: dict[str, dict[MachineIdentity, set[str]]] = {}
        for (workload, where), digests in found.pruned.items():
            self._pruned.setdefault(workload, {})[where] = digests
        for record in found.records:
            self._remember(record)

    @classmethod
    def of(cls, folder: Path, target: Target, device: Device) -> RecordStore:
        """Return the records of a target as a device sees them, which must be open.

        Raises
        ------
        RecordError
            As for the class.
        """
        return cls(folder, target, device.unit, device.identity)

    def find(self, workload: str, candidate: Candidate) -> Record | None:
        """Return what was measured of a candidate on this machine with today's code, or None."""
        return self._own.get(workload, {}).get(candidate)

    def best(self, workload: str) -> Record | None:
        """Return the fastest candidate that computes the right result, or None.

        Where this machine has measured nothing that works, or the kernel without a schedule alone,
        whose code the version of no rule changes, it is the most promising prior: see
        :meth:`is_prior`.
        """
        best = min(self._measured(workload), key=lambda record: record.value, default=None)
        if best is not None and self._has_schedules(workload):
            return best
        priors = self.priors(workload)
        scheduled = next((each for each in priors if each.candidate != UNSCHEDULED), None)
        return scheduled or best or next(iter(priors), None)

    def is_prior(self, record: Record) -> bool:
        """Whether a record is of another machine, or of other code."""
        return self.find(record.workload, record.candidate) != record

    def usable(self, workload: str) -> list[Record]:
        """Return candidates that work and whose values may be compared with one another.

        They are this machine's, or, as for :meth:`best`, those of the machine most like it that
        has any.
        """
        own = self._measured(workload)
        if own and self._has_schedules(workload):
            return own
        others = (_usable(each) for each in self._ordered(workload))
        return next(filter(None, others), own)

    def _measured(self, workload: str) -> list[Record]:
        """What works of this machine's."""
        return _usable(self._own.get(workload, {}).values())

    def _has_schedules(self, workload: str) -> bool:
        """Whether this machine has measured more than the kernel without a schedule."""
        return self._own.get(workload, {}).keys() != {UNSCHEDULED}

    def priors(self, workload: str) -> list[Record]:
        """Return what works elsewhere, or worked with other code, the most promising first.

        Values of different machines are never compared: the best of each come first, those of
        the machine most like this one before the others.
        """
        ranked = (
            sorted(_usable(found), key=lambda record: record.value)
            for found in self._ordered(workload)
        )
        merged = itertools.chain.from_iterable(itertools.zip_longest(*ranked))
        first: Found = {}
        for record in merged:
            if record is not None:
                first.setdefault(record.candidate, record)
        return list(first.values())

    def explored(self, workload: str, plan: Sequence[Candidate]) -> set[Candidate]:
        """Return which candidates of `plan` this machine has measured with today's code.

        Those that were measured and pruned count whatever the code was.
        """
        own = self._own.get(workload, {})
        digests = self._pruned_here(workload)
        return {each for each in plan if each in own or digest(each) in digests}

    def known(self, workload: str, plan: Sequence[Candidate]) -> set[Candidate]:
        """Return which candidates of `plan` were measured, by any machine and with any code."""
        others = self._others.get(workload, {})
        kept = {candidate for found in others.values() for candidate in found}
        pruned = set().union(*self._pruned.get(workload, {}).values())
        elsewhere = {each for each in plan if each in kept or digest(each) in pruned}
        return elsewhere | self.explored(workload, plan)

    def add(self, record: Record) -> None:
        """Append what was measured.

        Raises
        ------
        RecordError
            It cannot be written: no right, no room.
        """
        path = self.folder / MEASUREMENTS
        with json_lines.locked(self.folder):
            if json_lines.inode(path) != self._inode:
                # Pruned meanwhile: what it defines now is not known.
                self._defined = set()
            definitions = [
                measurements.encode_definition(each)
                for each in (record.machine, record.generation)
                if each.digest not in self._defined
            ]
            line = measurements.encode(self._target.log_name, record)
            json_lines.append(path, *definitions, line)
            self._inode = json_lines.inode(path)
        self._defined |= {record.machine.digest, record.generation.digest}
        self._remember(record)

    def generation(self, candidate: Candidate) -> Generation:
        """Return what makes the code of a candidate now."""
        if candidate.rule not in self._generations:
            self._generations[candidate.rule] = generation_of(candidate, self._target)
        return self._generations[candidate.rule]

    def write_winners(self, winners: Iterable[Winner]) -> None:
        """Write the schedules of winners to MetaSchedule's database, where they are not there yet.

        Raises
        ------
        RecordError
            The database is damaged or cannot be written.
        """
        there = database.named(self.folder)
        complete = all((self.folder / each).is_file() for each in (WORKLOADS, RECORDS))
        changed = [
            winner
            for winner in winners
            if not complete or not _is_named(there.get(winner.task.workload), winner)
        ]
        if changed:
            records = [(winner, self._tuning_record(winner)) for winner in changed]
            database.merge(self.folder, records)

    def _tuning_record(self, winner: Winner) -> ms.database.TuningRecord:
        task, candidate = winner.task, winner.candidate
        scheduled = Task(task.name, schedules.rewritten(task.func, candidate), task.calls)
        sch = schedules.apply(task.func, candidate, self._target)
        return database.tuning_record(scheduled, sch, winner.value, self._target)

    def _remember(self, record: Record) -> None:
        if record.machine == self._machine and self._is_current(record):
            self._own.setdefault(record.workload, {})[record.candidate] = record
            return
        origins = self._others.setdefault(record.workload, {})
        origin = (record.machine, record.generation)
        origins.setdefault(origin, {})[record.candidate] = record

    def _is_current(self, record: Record) -> bool:
        known = schedules.is_known(record.candidate)
        return known and record.generation == self.generation(record.candidate)

    def _ordered(self, workload: str) -> list[Iterable[Record]]:
        """What others measured, a group a machine and generation of TVM, the most like us first."""
        groups: dict[tuple[MachineIdentity, str], list[Record]] = {}
        for (machine, generation), found in self._others.get(workload, {}).items():
            groups.setdefault((machine, generation.tvm), []).extend(found.values())

        def distance(group: tuple[MachineIdentity, str]) -> tuple[int, int, str]:
            machine = group[0]
            unlike = 0 if self._machine is None else len(machine.differences(self._machine))
            return unlike, -len(groups[group]), machine.digest

        return [groups[each] for each in sorted(groups, key=distance)]

    def _pruned_here(self, workload: str) -> set[str]:
        if self._machine is None:
            return set()
        return self._pruned.get(workload, {}).get(self._machine, set())


def _is_named(there: dict[str, object] | None, winner: Winner) -> bool:
    if there is None:
        return False
    return {key: value for key, value in there.items() if key != "scheduled"} == database.name(
        winner
    )


def _usable(found: Iterable[Record]) -> list[Record]:
    return [record for record in found if record.failure is None]


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

"""Tuning records on disk: what was measured, and the schedules that won.

A target's folder holds one folder a unit, since seconds and instructions are
never ranked together. In each:

``measurements.jsonl``
    One line for each candidate ever measured, failures with their reason: the
    workload, the candidate, the unit, the values, the error against the
    reference, the device, the versions. It is what a resumed session reads.
``database_workload.json``, ``database_tuning_record.json``
    The winners, in MetaSchedule's own JSON database format; MetaSchedule's field
    ``run_secs`` holds the value in the folder's unit.

Lines are only ever appended, and reach the disk before the next candidate is
measured. A last line that a crash cut short is dropped with a warning; any other
line that cannot be read is an error that names file and line.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

from tvm_eff.device import Unit
from tvm_eff.errors import RecordError
from tvm_eff.space import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune import _database, _lines
from tvm_eff.tune._database import RECORDS, WORKLOADS
from tvm_eff.tune.task import Task

MEASUREMENTS = "measurements.jsonl"


@dataclass(frozen=True)
class Record:
    """One measured candidate.

    Attributes
    ----------
    workload
        Structural hash of the kernel.
    task
        The kernel's name where it was met first, for people.
    candidate
        What was measured.
    unit
        ``seconds`` or ``instructions``.
    values
        The values measured; empty for a failure.
    failure
        Why the candidate cannot be used, or None.
    error
        Largest difference from the reference, as a fraction of its spread.
    device
        Where it was measured.
    versions
        The versions of what produced it.
    """

    workload: str
    task: str
    candidate: Candidate
    unit: Unit
    values: tuple[float, ...]
    failure: str | None = None
    error: float | None = None
    device: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the values; infinite for a failure."""
        if self.failure is not None or not self.values:
            return float("inf")
        ordered = sorted(self.values)
        return ordered[len(ordered) // 2]


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
        _make_writable(self.folder)
        with _lines.locked(self.folder):
            for name in (MEASUREMENTS, WORKLOADS, RECORDS):
                _lines.repair(self.folder / name)
            found = _lines.read(self.folder / MEASUREMENTS, "a measurement", self._parse)
            self._records = {(record.workload, record.candidate): record for record in found}
            self._database = _database.read(self.folder, self._is_current)

    def find(self, workload: str, candidate: Candidate) -> Record | None:
        """Return what was measured of a candidate, or None."""
        return self._records.get((workload, candidate))

    def best(self, workload: str) -> Record | None:
        """Return the fastest candidate that computes the right result, or None."""
        found = [r for (w, _), r in self._records.items() if w == workload]
        usable = [r for r in found if r.failure is None]
        return min(usable, key=lambda record: record.value, default=None)

    def add(self, record: Record) -> None:
        """Append what was measured.

        Raises
        ------
        RecordError
            It cannot be written: no right, no room.
        """
        line = {"target": self._target.log_name, **asdict(record)}
        line["candidate"] = {"rule": record.candidate.rule, **record.candidate.as_dict()}
        with _lines.locked(self.folder):
            _lines.append(self.folder / MEASUREMENTS, line)
        self._records[record.workload, record.candidate] = record

    def commit(self, task: Task, record: Record, sch: Schedule) -> None:
        """Append the schedule of a winner to the MetaSchedule database.

        A former winner goes from memory if it was measured again and had another value.

        Raises
        ------
        RecordError
            It cannot be written.
        """
        former = self.committed(task)
        if former < math.inf and not self._is_current(task.workload, former):
            self._database = _database.without(self._database, task.module)
        workload = self._database.commit_workload(task.module)
        winner = ms.database.TuningRecord(
            sch.trace,
            workload,
            run_secs=[record.value],
            target=self._target.tvm_target(),
            args_info=ms.arg_info.ArgInfo.from_prim_func(task.func),
        )
        _database.append(self.folder, winner)
        self._database.commit_tuning_record(winner)

    def committed(self, task: Task) -> float:
        """Return the best value the database holds for a task; infinite if none."""
        record = self._database.query_tuning_record(task.module, self._target.tvm_target(), "main")
        return float(record.run_secs[0]) if record is not None else float("inf")

    @property
    def database(self) -> ms.Database:
        """The winners, as MetaSchedule's database."""
        return self._database

    def _is_current(self, workload: str, value: float) -> bool:
        """Whether a winner's value is still on record; a workload without records has no other."""
        values = {record.value for (name, _), record in self._records.items() if name == workload}
        return not values or value in values

    def _parse(self, line: dict[str, Any]) -> Record:
        if line.pop("target") != self._target.log_name:
            raise ValueError(f"it is of another target than {self._target.log_name}")
        if line.pop("unit") != self._unit:
            raise ValueError(f"its unit is not {self._unit}")
        decisions = _typed(line.pop("candidate"), dict)
        rule = _typed(decisions.pop("rule"), str)
        for value in decisions.values():
            _typed(value, int)
        failure, error = line.pop("failure"), line.pop("error")
        record = Record(
            workload=_typed(line.pop("workload"), str),
            task=_typed(line.pop("task"), str),
            candidate=Candidate.of(rule, decisions),
            unit=self._unit,
            values=tuple(_positive(value) for value in _typed(line.pop("values"), list)),
            failure=None if failure is None else _typed(failure, str),
            error=None if error is None else float(_typed(error, int, float)),
            device=_texts(line.pop("device")),
            versions=_texts(line.pop("versions")),
        )
        if line:
            raise ValueError(f"unknown field {', '.join(line)}")
        if not record.values and record.failure is None:
            raise ValueError("it has no values")
        return record


def _typed(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kinds[-1].__name__}")
    return value


def _positive(value: Any) -> float:
    number = float(_typed(value, int, float))
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{value} cannot be measured")
    return number


def _texts(value: Any) -> dict[str, str]:
    return {_typed(k, str): _typed(v, str) for k, v in _typed(value, dict).items()}


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

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

import base64
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

from tvm_eff.device import Unit
from tvm_eff.errors import RecordError
from tvm_eff.space import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune.task import Task

logger = logging.getLogger(__name__)

MEASUREMENTS = "measurements.jsonl"
WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"


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
        for name in (MEASUREMENTS, WORKLOADS, RECORDS):
            _repair(self.folder / name)
        self._records: dict[tuple[str, Candidate], Record] = {}
        for record in self._read():
            self._remember(record)
        self._workloads = [json.loads(line)[0] for line in _lines(self.folder / WORKLOADS)]
        self._database = self._open_database()

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
        _append(self.folder / MEASUREMENTS, json.dumps(line))
        self._remember(record)

    def commit(self, task: Task, record: Record, sch: Schedule) -> None:
        """Append the schedule of a winner to the MetaSchedule database.

        Raises
        ------
        RecordError
            It cannot be written.
        """
        workload = self._database.commit_workload(task.module)
        winner = ms.database.TuningRecord(
            sch.trace,
            workload,
            run_secs=[record.value],
            target=self._target.tvm_target(),
            args_info=ms.arg_info.ArgInfo.from_prim_func(task.func),
        )
        lines = database_lines(winner)
        if task.workload not in self._workloads:
            _append(self.folder / WORKLOADS, json.dumps(lines.workload))
            self._workloads.append(task.workload)
        number = self._workloads.index(task.workload)
        _append(self.folder / RECORDS, json.dumps([number, lines.record]))
        self._database.commit_tuning_record(winner)

    def committed(self, task: Task) -> float:
        """Return the best value the database holds for a task; infinite if none."""
        record = self._database.query_tuning_record(task.module, self._target.tvm_target(), "main")
        return float(record.run_secs[0]) if record is not None else float("inf")

    @property
    def database(self) -> ms.Database:
        """The winners, as MetaSchedule's database."""
        return self._database

    def _remember(self, record: Record) -> None:
        self._records[record.workload, record.candidate] = record

    def _open_database(self) -> ms.Database:
        """Read the winners; they are written line by line in :meth:`commit`."""
        database = ms.database.MemoryDatabase()
        try:
            stored = ms.database.JSONDatabase(
                str(self.folder / WORKLOADS), str(self.folder / RECORDS)
            )
        except Exception as error:  # TVM raises its own types, all of them below Exception
            raise RecordError(
                f"{self.folder / RECORDS}: MetaSchedule cannot read it together with {WORKLOADS} "
                f"({error}); move both files away to start afresh"
            ) from error
        for record in stored.get_all_tuning_records():
            database.commit_workload(record.workload.mod)
            database.commit_tuning_record(record)
        return database

    def _read(self) -> Iterator[Record]:
        path = self.folder / MEASUREMENTS
        for number, line in enumerate(_lines(path), start=1):
            try:
                yield self._parse(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise RecordError(
                    f"{path}, line {number}: not a measurement ({error}); remove the line, "
                    "or move the file away to start afresh"
                ) from error

    def _parse(self, line: dict[str, Any]) -> Record:
        if line.pop("target") != self._target.log_name:
            raise ValueError(f"it is of another target than {self._target.log_name}")
        if line["unit"] != self._unit or line["unit"] not in get_args(Unit):
            raise ValueError(f"its unit is not {self._unit}")
        decisions = dict(line.pop("candidate"))
        candidate = Candidate.of(decisions.pop("rule"), decisions)
        values = tuple(float(v) for v in line.pop("values"))
        return Record(candidate=candidate, values=values, **line)


@dataclass(frozen=True)
class DatabaseLines:
    """A record in the parsed lines of MetaSchedule's two files."""

    workload: list[str]
    record: Any


def database_lines(record: ms.database.TuningRecord) -> DatabaseLines:
    """Return `record` as MetaSchedule writes it, with the module's JSON compact.

    TVM indents the JSON of a module, which makes a kernel of 100 lines 75 kB.
    """
    with tempfile.TemporaryDirectory(prefix="tvm_eff-") as folder:
        paths = [Path(folder) / name for name in (WORKLOADS, RECORDS)]
        database = ms.database.JSONDatabase(*map(str, paths))
        workload = database.commit_workload(record.workload.mod)
        database.commit_tuning_record(
            ms.database.TuningRecord(
                record.trace, workload, record.run_secs, record.target, record.args_info
            )
        )
        written = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    name, encoded = written[0]
    return DatabaseLines([name, _compact(encoded)], written[1][1])


def _compact(encoded: str) -> str:
    """Take the white space out of JSON in base64 behind its length in eight bytes."""
    text = base64.b64decode(encoded)[8:]
    compact = json.dumps(json.loads(text), separators=(",", ":")).encode()
    return base64.b64encode(len(compact).to_bytes(8, "little") + compact).decode()


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


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{path} cannot be read: {error}; move it away to start afresh"
        ) from error


def _repair(path: Path) -> None:
    """Drop a last line that was cut short; anything else that is wrong is an error."""
    if not path.exists():
        return
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    torn = content[len(complete) :]
    for number, line in enumerate(complete.splitlines(), start=1):
        if not _is_json(line):
            raise RecordError(
                f"{path}, line {number}: not JSON; remove the line, "
                "or move the file away to start afresh"
            )
    if not torn:
        return
    if _is_json(torn):
        _append_raw(path, b"\n")
        return
    logger.warning("%s: the last line was cut short and is dropped", path)
    with path.open("r+b") as file:
        file.truncate(len(complete))
        os.fsync(file.fileno())


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _append(path: Path, line: str) -> None:
    _append_raw(path, line.encode() + b"\n")


def _append_raw(path: Path, content: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> RecordError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return RecordError(
        f"cannot write {path}: {reason}; make room or give the right to write, and run the "
        "same command again: nothing that was measured before is lost"
    )

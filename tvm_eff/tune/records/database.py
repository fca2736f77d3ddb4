"""The winners in MetaSchedule's JSON format, which its own JSONDatabase reads as well.

They are made from the measurements, never the other way round. ``winners.json`` names for
each workload the candidate whose schedule the two files hold.

TVM's reader crashes the process on a line that it does not expect, and its writer numbers
the workloads without looking whether another process has added some: lines are merged here.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

from tvm_eff import paths
from tvm_eff.errors import RecordError, SetupError
from tvm_eff.schedules import Candidate
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target
from tvm_eff.tune.records import json_lines
from tvm_eff.tune.task import Task

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"
WINNERS = "winners.json"

_ADVICE = "the file is made from the measurements: remove it"


@dataclass(frozen=True)
class Winner:
    """The candidate that a kernel is built with, and what it cost.

    Attributes
    ----------
    task
        The kernel.
    candidate
        The candidate.
    value
        Its value, in the unit of the records.
    """

    task: Task
    candidate: Candidate
    value: float


def tuning_record(
    task: Task, schedule: Schedule, value: float, target: Target
) -> ms.database.TuningRecord:
    """Return MetaSchedule's record of a scheduled function.

    Parameters
    ----------
    task
        The function that is scheduled: a kernel, or what stands in its place.
    schedule
        The schedule.
    value
        What it cost.
    target
        What it is for.
    """
    return ms.database.TuningRecord(
        schedule.trace,
        ms.database.Workload(task.module),
        run_secs=[value],
        target=target.tvm_target(),
        args_info=ms.arg_info.ArgInfo.from_prim_func(task.func),
    )


def named(folder: Path) -> dict[str, dict[str, Any]]:
    """Return which candidate's schedule the files of a folder hold, by the kernel's workload.

    Raises
    ------
    RecordError
        The file is damaged.
    """
    path = folder / WINNERS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path} cannot be read ({error}); {_ADVICE}") from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise RecordError(f"{path} does not hold the winners; {_ADVICE}")
    return found


def name(winner: Winner) -> dict[str, Any]:
    """Return how ``winners.json`` names a winner."""
    candidate = winner.candidate
    return {"rule": candidate.rule, **candidate.as_dict(), "value": winner.value}


def merge(folder: Path, written: Sequence[tuple[Winner, ms.database.TuningRecord]]) -> None:
    """Put winners into the files of a folder, in the place of earlier ones of their kernels.

    Raises
    ------
    RecordError
        The files are damaged, or cannot be written.
    """
    encoded = [(winner, _encode(record)) for winner, record in written]
    with json_lines.locked(folder):
        known = named(folder)
        workloads = json_lines.read(folder / WORKLOADS, "a workload", _workload, _ADVICE)
        records = json_lines.read(folder / RECORDS, "a winner", _record, _ADVICE)
        scheduled = _by_workload(workloads, records, folder)
        for winner, lines in encoded:
            earlier = known.get(winner.task.workload, {}).get("scheduled")
            scheduled.pop(str(earlier), None)
            scheduled[lines.workload[0]] = lines
            known[winner.task.workload] = {"scheduled": lines.workload[0], **name(winner)}
        _write(folder, scheduled, known)


@dataclass(frozen=True)
class _Encoded:
    """A record in the parsed lines of MetaSchedule's two files."""

    workload: list[str]
    record: Any


def _workload(line: Any) -> list[str]:
    digest, encoded = line
    if not isinstance(digest, str) or not isinstance(encoded, str):
        raise TypeError("it is not a hash and a module")
    return [digest, encoded]


def _record(line: Any) -> tuple[int, Any]:
    number, encoded = line
    if type(number) is not int or not isinstance(encoded, list):
        raise TypeError("it is not a number and a record")
    return number, encoded


def _by_workload(
    workloads: Sequence[list[str]], records: Sequence[tuple[int, Any]], folder: Path
) -> dict[str, _Encoded]:
    found = {}
    for line, (number, record) in enumerate(records, start=1):
        if not 0 <= number < len(workloads):
            raise RecordError(
                f"{folder / RECORDS}, line {line}: {WORKLOADS} has no workload {number}; {_ADVICE}"
            )
        found[workloads[number][0]] = _Encoded(workloads[number], record)
    return found


def _write(folder: Path, scheduled: dict[str, _Encoded], known: dict[str, dict[str, Any]]) -> None:
    lines = list(scheduled.values())
    contents = {
        WORKLOADS: json_lines.encode(each.workload for each in lines),
        RECORDS: json_lines.encode([number, each.record] for number, each in enumerate(lines)),
        WINNERS: (json.dumps(dict(sorted(known.items())), indent=0) + "\n").encode(),
    }
    for file, content in contents.items():
        try:
            paths.write_atomic(folder / file, content)
        except OSError as error:
            raise json_lines.unwritable(folder / file, error) from error


def _encode(record: ms.database.TuningRecord) -> _Encoded:
    """Return `record` as MetaSchedule writes it, with the module's JSON compact.

    TVM indents the JSON of a module, which makes a kernel of 100 lines 75 kB.
    """
    try:
        with scratch_folder() as folder:
            (digest, encoded), (_, line) = _written(folder, record)
    except (
        SetupError,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # TVM checks little of what it writes
        raise RecordError(
            f"cannot write to the temporary folder {tempfile.gettempdir()} ({error}); make room "
            "there or set TMPDIR, and run the same command again: no measurement is lost"
        ) from error
    return _Encoded([digest, _compact(encoded)], line)


def _written(folder: Path, record: ms.database.TuningRecord) -> list[Any]:
    # TuningRecord.as_json does not know the index maps in a trace.
    files = [folder / file for file in (WORKLOADS, RECORDS)]
    database = ms.database.JSONDatabase(*map(str, files))
    # The database asks for the very workload that it holds.
    workload = database.commit_workload(record.workload.mod)
    database.commit_tuning_record(
        ms.database.TuningRecord(
            record.trace, workload, record.run_secs, record.target, record.args_info
        )
    )
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def _compact(encoded: str) -> str:
    """Take the white space out of JSON in base64 behind its length in eight bytes."""
    text = base64.b64decode(encoded)[8:]
    compact = json.dumps(json.loads(text), separators=(",", ":")).encode()
    return base64.b64encode(len(compact).to_bytes(8, "little") + compact).decode()

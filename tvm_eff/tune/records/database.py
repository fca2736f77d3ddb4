"""The winners in MetaSchedule's JSON format, which its own JSONDatabase reads as well.

TVM's reader crashes the process on a line that it does not expect, and its writer
numbers the workloads without looking whether another process has added some.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm.s_tir import meta_schedule as ms

from tvm_eff.errors import RecordError
from tvm_eff.tune.records import json_lines

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"


def read(folder: Path) -> dict[str, list[ms.database.TuningRecord]]:
    """Read the winners of a folder, for each workload's hash.

    Raises
    ------
    RecordError
        A line of the two files cannot be read.
    """
    found: dict[str, list[ms.database.TuningRecord]] = {}
    workloads = json_lines.read(
        folder / WORKLOADS,
        "a workload",
        lambda line: (str(line[0]), ms.database.Workload.from_json(line)),
    )

    def parse(line: Any) -> None:
        number, encoded = line
        if not isinstance(number, int) or not 0 <= number < len(workloads):
            raise ValueError(f"{WORKLOADS} has no workload {number}")
        name, workload = workloads[number]
        record = ms.database.TuningRecord.from_json(encoded, workload)
        if not record.run_secs:
            raise ValueError("it has no value")
        found.setdefault(name, []).append(record)

    json_lines.read(folder / RECORDS, "a winner", parse)
    return found


def in_memory(winners: Iterable[ms.database.TuningRecord]) -> ms.Database:
    """Return a database of some winners."""
    database = ms.database.MemoryDatabase()
    for winner in winners:
        # The database asks for the very workload that it holds.
        workload = database.commit_workload(winner.workload.mod)
        database.commit_tuning_record(_of(winner, workload))
    return database


def value(winner: ms.database.TuningRecord) -> float:
    """Return the value of a winner in its folder's unit."""
    return float(winner.run_secs[0])


def append(folder: Path, winner: ms.database.TuningRecord) -> None:
    """Append a winner to the files of a folder.

    Raises
    ------
    RecordError
        It cannot be written.
    """
    lines = _encode(winner)
    with json_lines.locked(folder):
        known = json_lines.read(folder / WORKLOADS, "a workload", lambda line: str(line[0]))
        name = lines.workload[0]
        if name not in known:
            json_lines.append(folder / WORKLOADS, lines.workload)
            known.append(name)
        json_lines.append(folder / RECORDS, [known.index(name), lines.record])


@dataclass(frozen=True)
class _Encoded:
    """A record in the parsed lines of MetaSchedule's two files."""

    workload: list[str]
    record: Any


def _encode(record: ms.database.TuningRecord) -> _Encoded:
    """Return `record` as MetaSchedule writes it, with the module's JSON compact.

    TVM indents the JSON of a module, which makes a kernel of 100 lines 75 kB.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="tvm_eff-") as folder:
            (name, encoded), (_, line) = _written(Path(folder), record)
    except (OSError, ValueError, RuntimeError) as error:  # TVM checks little of what it writes
        raise RecordError(
            f"cannot write to the temporary folder {tempfile.gettempdir()} ({error}); make room "
            "there or set TMPDIR, and run the same command again: no measurement is lost"
        ) from error
    return _Encoded([name, _compact(encoded)], line)


def _written(folder: Path, record: ms.database.TuningRecord) -> list[Any]:
    # TuningRecord.as_json does not know the index maps in a trace.
    paths = [folder / name for name in (WORKLOADS, RECORDS)]
    database = ms.database.JSONDatabase(*map(str, paths))
    workload = database.commit_workload(record.workload.mod)
    database.commit_tuning_record(_of(record, workload))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _of(
    record: ms.database.TuningRecord, workload: ms.database.Workload
) -> ms.database.TuningRecord:
    return ms.database.TuningRecord(
        record.trace, workload, record.run_secs, record.target, record.args_info
    )


def _compact(encoded: str) -> str:
    """Take the white space out of JSON in base64 behind its length in eight bytes."""
    text = base64.b64decode(encoded)[8:]
    compact = json.dumps(json.loads(text), separators=(",", ":")).encode()
    return base64.b64encode(len(compact).to_bytes(8, "little") + compact).decode()

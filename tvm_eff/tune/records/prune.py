"""Records small enough to ship: the best few candidates of each workload."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tvm_eff.device import Unit
from tvm_eff.errors import RecordError
from tvm_eff.schedules import UNSCHEDULED
from tvm_eff.tune.records import json_lines, measurements
from tvm_eff.tune.records.database import RECORDS, WORKLOADS
from tvm_eff.tune.records.measurements import MEASUREMENTS, Measurements
from tvm_eff.tune.records.record import Record, digest

FILES = (MEASUREMENTS, WORKLOADS, RECORDS)


@dataclass(frozen=True)
class Folder:
    """What the records of one target in one unit amount to.

    Attributes
    ----------
    target
        The name of the target's folder.
    unit
        The unit of the values.
    workloads, candidates, pruned
        Workloads, the candidates on record, and those that were measured and not kept.
    size
        Bytes of all files that hold records.
    devices
        Where the values come from, in words.
    """

    target: str
    unit: Unit
    workloads: int
    candidates: int
    pruned: int
    size: int
    devices: tuple[str, ...]


def survey(logs: Path) -> list[Folder]:
    """Return what is in a folder of logs, one item a target and unit.

    Raises
    ------
    RecordError
        There are no records, or they cannot be read.
    """
    paths = sorted(path.parent for path in logs.glob(f"*/*/{MEASUREMENTS}"))
    found = [_summary(path) for path in paths if path.name in get_args(Unit)]
    if not found:
        raise RecordError(f"{logs} holds no records; name a folder of records with --logs FOLDER")
    return found


def prune(logs: Path, log_name: str, output: Path, keep: int) -> list[Folder]:
    """Merge the best few candidates of each workload of a target into a folder of records.

    What stays of each workload, and of each machine that measured it, is the kernel as
    imported and the fastest candidates. The rest is remembered by digests alone, failures
    included, so that no session measures it again. MetaSchedule's files in the output
    are removed; the next session writes what it needs of them from the measurements.

    Parameters
    ----------
    logs
        The folder of logs to read.
    log_name
        The name of the target's folder in it.
    output
        The folder of logs to merge into; it may be `logs`.
    keep
        How many candidates to keep beside the kernel as imported.

    Returns
    -------
    list[Folder]
        What the output then holds of the target, one item a unit.

    Raises
    ------
    RecordError
        There is nothing to prune, or a file cannot be read or written.
    """
    units = [unit for unit in get_args(Unit) if (logs / log_name / unit / MEASUREMENTS).is_file()]
    if not units:
        raise RecordError(
            f"{logs / log_name} holds no records; tune for that target first, "
            "or name a folder of records with --logs FOLDER"
        )
    return [_prune(logs / log_name / unit, output / log_name / unit, keep) for unit in units]


def kept(measurements: Measurements, keep: int) -> Measurements:
    """Return the best `keep` of each workload and machine; the rest as digests."""
    groups: dict[tuple[str, ...], dict[object, Record]] = {}
    for record in measurements.records:
        group = groups.setdefault((record.workload, *record.machine), {})
        known = group.get(record.candidate)
        if known is None or record.value < known.value:
            group[record.candidate] = record
    records = [each for group in groups.values() for each in _best(group.values(), keep)]
    return Measurements(records, _pruned(measurements, records))


def _best(records: Iterable[Record], keep: int) -> list[Record]:
    """The kernel as imported, even if it failed, and the fastest that work."""
    ordered = sorted(records, key=lambda record: (record.value, str(record.candidate)))
    before = [record for record in ordered if record.candidate == UNSCHEDULED]
    scheduled = [r for r in ordered if r.candidate != UNSCHEDULED and r.failure is None]
    return before + scheduled[:keep]


def _pruned(measurements: Measurements, records: Iterable[Record]) -> dict[str, set[str]]:
    """What some machine has measured and does not keep, though another one may."""
    pruned = {workload: set(digests) for workload, digests in measurements.pruned.items()}
    stay = {(record.workload, record.machine, record.candidate) for record in records}
    for record in measurements.records:
        if (record.workload, record.machine, record.candidate) not in stay:
            pruned.setdefault(record.workload, set()).add(digest(record.candidate))
    return pruned


def _prune(source: Path, output: Path, keep: int) -> Folder:
    merged = _read(source)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with json_lines.locked(output):
            if output.resolve() != source.resolve():
                shipped = _read(output)
                merged.records += shipped.records
                for workload, digests in shipped.pruned.items():
                    merged.pruned.setdefault(workload, set()).update(digests)
            lines = measurements.encode_all(source.parent.name, _unit(source), kept(merged, keep))
            _replace(output / MEASUREMENTS, json_lines.encode(lines))
            for name in (WORKLOADS, RECORDS):
                (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise RecordError(
            f"cannot write the records to {output}: {error.strerror}; "
            "name another folder with --output FOLDER"
        ) from error
    return _summary(output)


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="prune-") as folder:
        written = Path(folder) / path.name
        with written.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)


def _read(folder: Path) -> Measurements:
    found = measurements.read(folder / MEASUREMENTS, folder.parent.name, _unit(folder))
    # What was measured again is what counts, also where it came out slower.
    last = {(r.workload, r.machine, r.candidate): r for r in found.records}
    return Measurements(list(last.values()), found.pruned)


def _unit(folder: Path) -> Unit:
    return next(unit for unit in get_args(Unit) if unit == folder.name)


def _summary(folder: Path) -> Folder:
    found = _read(folder)
    files = [folder / name for name in FILES]
    places = {record.device.get("where", "?") for record in found.records}
    return Folder(
        target=folder.parent.name,
        unit=_unit(folder),
        workloads=len({record.workload for record in found.records}),
        candidates=len(found.records),
        pruned=sum(map(len, found.pruned.values())),
        size=sum(path.stat().st_size for path in files if path.exists()),
        devices=tuple(sorted(place.replace("this machine", "a machine") for place in places)),
    )

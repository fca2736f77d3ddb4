"""Records small enough to ship: the best few candidates of each workload."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tvm_eff import paths
from tvm_eff.device import MachineIdentity, Unit
from tvm_eff.errors import RecordError
from tvm_eff.schedules import UNSCHEDULED
from tvm_eff.tune.records import json_lines, measurements
from tvm_eff.tune.records.database import RECORDS, WINNERS, WORKLOADS
from tvm_eff.tune.records.measurements import MEASUREMENTS, Measurements
from tvm_eff.tune.records.record import Record, digest

FILES = (MEASUREMENTS, WORKLOADS, RECORDS, WINNERS)


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
    machines
        Where the values come from, in words.
    """

    target: str
    unit: Unit
    workloads: int
    candidates: int
    pruned: int
    size: int
    machines: tuple[str, ...]


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


def kept(found: Measurements, keep: int) -> Measurements:
    """Return the best `keep` of each workload, machine and code; the rest as digests."""
    groups: dict[tuple[object, ...], dict[object, Record]] = {}
    for record in found.records:
        # Not the rule's version: candidates of different rules are ranked together.
        group = groups.setdefault((record.workload, record.machine, record.generation.tvm), {})
        known = group.get(record.candidate)
        if known is None or record.value < known.value:
            group[record.candidate] = record
    records = [each for group in groups.values() for each in _best(group.values(), keep)]
    return Measurements(records, _pruned(found, records))


def _best(records: Iterable[Record], keep: int) -> list[Record]:
    """The kernel as imported, even if it failed, and the fastest that work."""
    ordered = sorted(records, key=lambda record: (record.value, str(record.candidate)))
    before = [record for record in ordered if record.candidate == UNSCHEDULED]
    scheduled = [r for r in ordered if r.candidate != UNSCHEDULED and r.failure is None]
    return before + scheduled[:keep]


def _pruned(
    found: Measurements, records: Iterable[Record]
) -> dict[tuple[str, MachineIdentity], set[str]]:
    """What some machine has measured and does not keep, though another one may."""
    pruned = {key: set(digests) for key, digests in found.pruned.items()}
    stay = {(record.workload, record.machine, record.candidate) for record in records}
    for record in found.records:
        if (record.workload, record.machine, record.candidate) not in stay:
            key = (record.workload, record.machine)
            pruned.setdefault(key, set()).add(digest(record.candidate))
    return pruned


def _prune(source: Path, output: Path, keep: int) -> Folder:
    try:
        output.mkdir(parents=True, exist_ok=True)
        with ExitStack() as locks:
            # In one order, as another process may prune the other way round.
            for folder in sorted({source.resolve(), output.resolve()}):
                locks.enter_context(json_lines.locked(folder))
            merged = _read(source)
            if output.resolve() != source.resolve():
                shipped = _read(output)
                merged.records += shipped.records
                for key, digests in shipped.pruned.items():
                    merged.pruned.setdefault(key, set()).update(digests)
            lines = measurements.encode_all(source.parent.name, _unit(source), kept(merged, keep))
            paths.write_atomic(output / MEASUREMENTS, json_lines.encode(lines))
            for name in (WORKLOADS, RECORDS, WINNERS):
                (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise RecordError(
            f"cannot write the records to {output}: {error.strerror}; "
            "name another folder with --output FOLDER"
        ) from error
    return _summary(output)


def _read(folder: Path) -> Measurements:
    found = measurements.read(folder / MEASUREMENTS, folder.parent.name, _unit(folder))
    # What was measured again is what counts, also where it came out slower.
    last = {(r.workload, r.machine, r.generation, r.candidate): r for r in found.records}
    return Measurements(list(last.values()), found.pruned)


def _unit(folder: Path) -> Unit:
    return next(unit for unit in get_args(Unit) if unit == folder.name)


def _summary(folder: Path) -> Folder:
    found = _read(folder)
    files = [folder / name for name in FILES]
    return Folder(
        target=folder.parent.name,
        unit=_unit(folder),
        workloads=len({record.workload for record in found.records}),
        candidates=len(found.records),
        pruned=sum(map(len, found.pruned.values())),
        size=sum(path.stat().st_size for path in files if path.exists()),
        machines=tuple(sorted({_words(record.machine) for record in found.records})),
    )


def _words(machine: MachineIdentity) -> str:
    return machine.words.replace("this machine", "a machine")

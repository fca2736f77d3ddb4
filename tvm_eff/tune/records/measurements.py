"""The lines of ``measurements.jsonl``.

A line is a JSON object of one ``kind``:

``machine``, ``generation``
    What values hold for, under a short name that the lines below refer to.
``measurement``
    One measured candidate.
``pruned``
    Candidates of a workload that a machine measured and that are not kept, as digests.

``check`` is a hash of the rest of the line, so that one that was edited by hand is found.
Lines without a ``kind`` are of tvm_eff 0.1: they did not say enough of the machine, and
nothing of the code, so that their values are priors.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from tvm_eff import strict
from tvm_eff.device import MachineIdentity, Unit
from tvm_eff.errors import nearest
from tvm_eff.schedules import Candidate
from tvm_eff.strict import Count
from tvm_eff.tune.records import json_lines
from tvm_eff.tune.records.generation import Generation
from tvm_eff.tune.records.record import Record

MEASUREMENTS = "measurements.jsonl"

Line = dict[str, Any]
Positive = Annotated[
    float,
    msgspec.Meta(gt=0, le=sys.float_info.max, description="a positive number, and finite"),
]
Defined = TypeVar("Defined", MachineIdentity, Generation)


@dataclass
class Measurements:
    """What a file of measurements holds.

    Attributes
    ----------
    records
        The measurements, in the order of the file.
    pruned
        For each workload and machine, the digests of candidates that were measured and not kept.
    defined
        The names of the machines and generations that the file defines.
    """

    records: list[Record] = field(default_factory=list)
    pruned: dict[tuple[str, MachineIdentity], set[str]] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)


def read(path: Path, log_name: str, unit: Unit) -> Measurements:
    """Read a file of measurements; there are none where there is no file.

    Raises
    ------
    RecordError
        A line cannot be read, was edited, or is of another target or unit.
    """
    reader = _Reader(log_name, unit)
    json_lines.read(path, "a measurement", reader.line)
    return reader.found


def encode(log_name: str, record: Record) -> Line:
    """Return the line of one measurement; it refers to its machine and generation."""
    line: Line = {
        "kind": "measurement",
        "target": log_name,
        "workload": record.workload,
        "task": record.task,
        "candidate": {"rule": record.candidate.rule, **record.candidate.as_dict()},
        "unit": record.unit,
        "values": list(record.values),
        "failure": record.failure,
        "error": record.error,
        "machine": record.machine.digest,
        "generation": record.generation.digest,
    }
    return _checked({key: value for key, value in line.items() if value is not None})


def encode_definition(defined: MachineIdentity | Generation) -> Line:
    """Return the line that defines a machine or a generation by its name."""
    kind = "machine" if isinstance(defined, MachineIdentity) else "generation"
    return _checked({"kind": kind, "digest": defined.digest, **asdict(defined)})


def encode_all(log_name: str, unit: Unit, measurements: Measurements) -> list[Line]:
    """Return the lines of a whole file, in an order that lasts."""
    machines = {record.machine for record in measurements.records}
    machines |= {machine for _, machine in measurements.pruned}
    generations = {record.generation for record in measurements.records}
    defined = [encode_definition(each) for each in sorted(machines, key=_digest)]
    defined += [encode_definition(each) for each in sorted(generations, key=_digest)]
    by_workload = sorted(measurements.records, key=_order)
    lines = [encode(log_name, record) for record in by_workload]
    lines += [
        _checked(
            {
                "kind": "pruned",
                "target": log_name,
                "workload": workload,
                "unit": unit,
                "machine": machine.digest,
                "candidates": sorted(digests),
            }
        )
        for (workload, machine), digests in measurements.pruned.items()
        if digests
    ]
    lines.sort(key=lambda line: str(line["workload"]))
    return defined + lines


def _digest(defined: MachineIdentity | Generation) -> str:
    return defined.digest


def _order(record: Record) -> tuple[Any, ...]:
    origin = (record.machine.digest, record.generation.digest)
    return record.workload, *origin, record.value, str(record.candidate)


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """What every line has."""

    kind: str
    check: str


class _MachineLine(_Line):
    """Defines a machine."""

    digest: str
    system: str
    name: str = ""
    vendor: str = ""
    family: str = ""
    model: str = ""
    stepping: str = ""
    features: str = ""
    caches: str = ""
    cores: Count = 0
    threads: Count = 0
    gpu: str = ""


class _GenerationLine(_Line):
    """Defines a code generation."""

    digest: str
    tvm: str
    llvm: str = ""
    passes: str = ""
    rule: str = ""


class _Measured(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A measurement, of whatever version."""

    target: str
    unit: str
    workload: str
    task: str
    candidate: dict[str, str | int]
    values: tuple[Positive, ...]
    failure: str | None = None
    error: float | None = None


class _MeasurementLine(_Measured, kw_only=True):
    """One measured candidate."""

    kind: str
    check: str
    machine: str
    generation: str


class _PrunedLine(_Line):
    """Candidates that a machine measured and that are not kept."""

    target: str
    unit: str
    workload: str
    machine: str
    candidates: tuple[str, ...]


class _LegacySource(msgspec.Struct, forbid_unknown_fields=True):
    """Where measurements of tvm_eff 0.1 are from."""

    source: str
    device: dict[str, str]
    versions: dict[str, str]


class _LegacyMeasurement(_Measured, kw_only=True):
    """One measured candidate of tvm_eff 0.1."""

    source: str | None = None
    device: dict[str, str] = {}
    versions: dict[str, str] = {}


class _LegacyPruned(msgspec.Struct, forbid_unknown_fields=True):
    """Candidates that were not kept by tvm_eff 0.1."""

    target: str
    unit: str
    workload: str
    pruned: tuple[str, ...]


class _Reader:
    """Reads lines one after the other; later ones refer to machines that earlier ones define."""

    def __init__(self, log_name: str, unit: Unit) -> None:
        self._log_name, self._unit = log_name, unit
        self._machines: dict[str, MachineIdentity] = {}
        self._generations: dict[str, Generation] = {}
        self._sources: dict[str, _LegacySource] = {}
        self.found = Measurements()

    def line(self, line: Any) -> None:
        """Take one parsed line."""
        if not isinstance(line, dict):
            raise TypeError(f"{line!r} is no object")
        if "kind" not in line:
            self._legacy(line)
            return
        kinds = {
            "machine": self._machine,
            "generation": self._generation,
            "measurement": self._measurement,
            "pruned": self._pruned,
        }
        kind = line["kind"]
        if not isinstance(kind, str) or kind not in kinds:
            raise ValueError(f"unknown kind {kind!r}{nearest(str(kind), kinds)}")
        if line.get("check") != _check(line):
            raise ValueError("it was changed since it was written: its check does not match")
        kinds[kind](line)

    def _machine(self, line: Line) -> None:
        machine = _defined(MachineIdentity, strict.checked(line, _MachineLine))
        self._machines[machine.digest] = machine
        self.found.defined.add(machine.digest)

    def _generation(self, line: Line) -> None:
        generation = _defined(Generation, strict.checked(line, _GenerationLine))
        self._generations[generation.digest] = generation
        self.found.defined.add(generation.digest)

    def _measurement(self, line: Line) -> None:
        read = strict.checked(line, _MeasurementLine)
        self._require_of(read)
        machine = _lookup("machine", read.machine, self._machines)
        generation = _lookup("generation", read.generation, self._generations)
        self.found.records.append(_record(read, self._unit, machine, generation))

    def _pruned(self, line: Line) -> None:
        read = strict.checked(line, _PrunedLine)
        self._require_of(read)
        machine = _lookup("machine", read.machine, self._machines)
        self.found.pruned.setdefault((read.workload, machine), set()).update(read.candidates)

    def _require_of(self, read: _Measured | _PrunedLine | _LegacyPruned) -> None:
        if read.target != self._log_name:
            raise ValueError(f"it is of another target than {self._log_name}")
        if read.unit != self._unit:
            raise ValueError(f"its unit is not {self._unit}")

    def _legacy(self, line: Line) -> None:
        if "target" not in line and "source" in line:
            source = strict.checked(line, _LegacySource)
            self._sources[source.source] = source
        elif "pruned" in line:
            pruned = strict.checked(line, _LegacyPruned)
            self._require_of(pruned)
            key = (pruned.workload, MachineIdentity("unknown"))
            self.found.pruned.setdefault(key, set()).update(pruned.pruned)
        else:
            self._legacy_measurement(strict.checked(line, _LegacyMeasurement))

    def _legacy_measurement(self, read: _LegacyMeasurement) -> None:
        self._require_of(read)
        device, versions = read.device, read.versions
        if read.source is not None:
            if read.source not in self._sources:
                raise ValueError(f"no line before it is the source {read.source!r}")
            source = self._sources[read.source]
            device, versions = source.device, source.versions
        machine = MachineIdentity("unknown", name=device.get("where", ""))
        generation = Generation(versions.get("tvm", ""))
        self.found.records.append(_record(read, self._unit, machine, generation))


def _record(
    read: _Measured, unit: Unit, machine: MachineIdentity, generation: Generation
) -> Record:
    decisions = dict(read.candidate)
    rule = decisions.pop("rule", None)
    if not isinstance(rule, str):
        raise ValueError("the key 'candidate.rule' is missing; expected a string")
    wrong = next((key for key, value in decisions.items() if isinstance(value, str)), None)
    if wrong is not None:
        raise ValueError(f"'candidate.{wrong}' is {decisions[wrong]!r}; expected an integer")
    if not read.values and read.failure is None:
        raise ValueError("it has no values")
    return Record(
        workload=read.workload,
        task=read.task,
        candidate=Candidate.of(rule, {key: int(value) for key, value in decisions.items()}),
        unit=unit,
        values=read.values,
        machine=machine,
        generation=generation,
        failure=read.failure,
        error=read.error,
    )


def _defined(kind: type[Defined], read: _MachineLine | _GenerationLine) -> Defined:
    values = msgspec.structs.asdict(read)
    made = kind(**{each.name: values[each.name] for each in fields(kind)})
    if made.digest != read.digest:
        raise ValueError(f"what it describes is not {read.digest}")
    return made


def _lookup(key: str, name: str, known: dict[str, Defined]) -> Defined:
    if name not in known:
        raise ValueError(f"no line before it defines the {key} '{name}'")
    return known[name]


def _checked(line: Line) -> Line:
    return {**line, "check": _check(line)}


def _check(line: Line) -> str:
    """Return the hash of a line without its check."""
    rest = {key: value for key, value in line.items() if key != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:8]

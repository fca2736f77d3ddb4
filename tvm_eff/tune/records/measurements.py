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
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from tvm_eff.device import MachineIdentity, Unit
from tvm_eff.errors import nearest
from tvm_eff.schedules import Candidate
from tvm_eff.tune.records import json_lines
from tvm_eff.tune.records.generation import Generation
from tvm_eff.tune.records.record import Record

MEASUREMENTS = "measurements.jsonl"

Line = dict[str, Any]
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


class _Reader:
    """Reads lines one after the other; later ones refer to machines that earlier ones define."""

    def __init__(self, log_name: str, unit: Unit) -> None:
        self._log_name, self._unit = log_name, unit
        self._machines: dict[str, MachineIdentity] = {}
        self._generations: dict[str, Generation] = {}
        self._sources: dict[str, Line] = {}
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
        kind = _typed(line.pop("kind"), str)
        if kind not in kinds:
            raise ValueError(f"unknown kind '{kind}'{nearest(kind, kinds)}")
        _require_check(kind, line)
        kinds[kind](line)

    def _machine(self, line: Line) -> None:
        machine = _definition(MachineIdentity, line)
        self._machines[machine.digest] = machine
        self.found.defined.add(machine.digest)

    def _generation(self, line: Line) -> None:
        generation = _definition(Generation, line)
        self._generations[generation.digest] = generation
        self.found.defined.add(generation.digest)

    def _measurement(self, line: Line) -> None:
        self._require_of(line)
        machine = _lookup("machine", line, self._machines)
        generation = _lookup("generation", line, self._generations)
        self.found.records.append(_record(line, self._unit, machine, generation))

    def _pruned(self, line: Line) -> None:
        self._require_of(line)
        machine = _lookup("machine", line, self._machines)
        self._add_pruned(line, machine, line.pop("candidates"))

    def _add_pruned(self, line: Line, machine: MachineIdentity, candidates: Any) -> None:
        digests = {_typed(each, str) for each in _typed(candidates, list)}
        key = (_typed(line.pop("workload"), str), machine)
        self.found.pruned.setdefault(key, set()).update(digests)
        _require_empty(line, ("target", "unit", "workload", "machine", "candidates"))

    def _require_of(self, line: Line) -> None:
        if line.pop("target") != self._log_name:
            raise ValueError(f"it is of another target than {self._log_name}")
        if line.pop("unit") != self._unit:
            raise ValueError(f"its unit is not {self._unit}")

    def _legacy(self, line: Line) -> None:
        if "target" not in line and "source" in line:
            name = _typed(line.pop("source"), str)
            self._sources[name] = {key: _texts(line.pop(key)) for key in ("device", "versions")}
            _require_empty(line, ("source", "device", "versions"))
            return
        self._require_of(line)
        if "pruned" in line:
            self._add_pruned(line, MachineIdentity("unknown"), line.pop("pruned"))
            return
        if "source" in line:
            source = line.pop("source")
            if source not in self._sources:
                raise ValueError(f"no line before it is the source {source!r}")
            line.update(self._sources[source])
        device, versions = _texts(line.pop("device")), _texts(line.pop("versions"))
        machine = MachineIdentity("unknown", name=device.get("where", ""))
        generation = Generation(versions.get("tvm", ""))
        self.found.records.append(_record(line, self._unit, machine, generation))


def _record(line: Line, unit: Unit, machine: MachineIdentity, generation: Generation) -> Record:
    decisions = _typed(line.pop("candidate"), dict)
    rule = _typed(decisions.pop("rule"), str)
    for value in decisions.values():
        _typed(value, int)
    failure, error = line.pop("failure", None), line.pop("error", None)
    record = Record(
        workload=_typed(line.pop("workload"), str),
        task=_typed(line.pop("task"), str),
        candidate=Candidate.of(rule, decisions),
        unit=unit,
        values=tuple(_positive(value) for value in _typed(line.pop("values"), list)),
        machine=machine,
        generation=generation,
        failure=None if failure is None else _typed(failure, str),
        error=None if error is None else float(_typed(error, int, float)),
    )
    known = ("target", "unit", "workload", "task", "candidate", "values", "failure", "error")
    _require_empty(line, (*known, "machine", "generation", "check"))
    if not record.values and record.failure is None:
        raise ValueError("it has no values")
    return record


def _definition(kind: type[Defined], line: Line) -> Defined:
    name = _typed(line.pop("digest"), str)
    hints = {each.name: int if each.type == "int" else str for each in fields(kind)}
    values = {key: _typed(line.pop(key), hint) for key, hint in hints.items() if key in line}
    _require_empty(line, hints)
    defined = kind(**values)
    if defined.digest != name:
        raise ValueError(f"what it describes is not {name}")
    return defined


def _lookup(key: str, line: Line, known: dict[str, Defined]) -> Defined:
    name = _typed(line.pop(key), str)
    if name not in known:
        raise ValueError(f"no line before it defines the {key} '{name}'")
    return known[name]


def _checked(line: Line) -> Line:
    return {**line, "check": _check(line)}


def _check(line: Line) -> str:
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()[:8]


def _require_check(kind: str, line: Line) -> None:
    found = line.pop("check", None)
    if found != _check({"kind": kind, **line}):
        raise ValueError("it was changed since it was written: its check does not match")


def _require_empty(line: Line, known: Iterable[str]) -> None:
    for key in line:
        raise ValueError(f"unknown field '{key}'{nearest(key, known)}")


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
    return {_typed(key, str): _typed(text, str) for key, text in _typed(value, dict).items()}

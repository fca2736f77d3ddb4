"""The lines of ``measurements.jsonl``.

A line is one of three things: a measurement; a source, which names a device and
versions once for the lines below that refer to it; or the candidates of a workload
that were measured and pruned, as digests. Sessions append measurements that carry
their device themselves; sources and pruned candidates come from pruning.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tvm_eff.device import Unit
from tvm_eff.schedules import Candidate
from tvm_eff.tune.records import json_lines
from tvm_eff.tune.records.record import Record

MEASUREMENTS = "measurements.jsonl"

Line = dict[str, Any]


@dataclass
class Measurements:
    """What a file of measurements holds.

    Attributes
    ----------
    records
        The measurements, in the order of the file.
    pruned
        For each workload, the digests of candidates that were measured and not kept.
    """

    records: list[Record] = field(default_factory=list)
    pruned: dict[str, set[str]] = field(default_factory=dict)


def read(path: Path, log_name: str, unit: Unit) -> Measurements:
    """Read a file of measurements; there are none where there is no file.

    Raises
    ------
    RecordError
        A line cannot be read, or is of another target or unit.
    """
    found = Measurements()
    sources: dict[str, Line] = {}

    def parse(line: Any) -> None:
        if "target" not in line and "source" in line:
            name = _typed(line.pop("source"), str)
            sources[name] = _parse_source(line)
            return
        _require_of(line, log_name, unit)
        if "pruned" in line:
            digests = {_typed(each, str) for each in _typed(line.pop("pruned"), list)}
            found.pruned.setdefault(_typed(line.pop("workload"), str), set()).update(digests)
            _require_empty(line)
            return
        if "source" in line:
            source = line.pop("source")
            if source not in sources:
                raise ValueError(f"no line before it is the source {source!r}")
            line = {**line, **sources[source]}
        found.records.append(_parse_record(line, unit))

    json_lines.read(path, "a measurement", parse)
    return found


def encode(log_name: str, record: Record) -> Line:
    """Return the line of one measurement, which can be read without any other line."""
    line = {"target": log_name, **asdict(record)}
    line["candidate"] = {"rule": record.candidate.rule, **record.candidate.as_dict()}
    return line


def encode_all(log_name: str, unit: Unit, measurements: Measurements) -> list[Line]:
    """Return the lines of a whole file, each device named once, in an order that lasts."""
    sources: dict[str, Line] = {}
    lines = []
    by_workload = sorted(measurements.records, key=lambda r: (r.workload, r.machine, r.value))
    for record in by_workload:
        line = encode(log_name, record)
        source = {name: line.pop(name) for name in ("device", "versions")}
        line["source"] = _name(source)
        sources[line["source"]] = source
        lines.append({key: value for key, value in line.items() if value is not None})
    lines += [
        {"target": log_name, "workload": workload, "unit": unit, "pruned": sorted(digests)}
        for workload, digests in measurements.pruned.items()
        if digests
    ]
    lines.sort(key=lambda line: str(line["workload"]))
    return [{"source": name, **sources[name]} for name in sorted(sources)] + lines


def _name(source: Line) -> str:
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:8]


def _parse_source(line: Line) -> Line:
    source = {name: _texts(line.pop(name)) for name in ("device", "versions")}
    _require_empty(line)
    return source


def _parse_record(line: Line, unit: Unit) -> Record:
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
        failure=None if failure is None else _typed(failure, str),
        error=None if error is None else float(_typed(error, int, float)),
        device=_texts(line.pop("device")),
        versions=_texts(line.pop("versions")),
    )
    _require_empty(line)
    if not record.values and record.failure is None:
        raise ValueError("it has no values")
    return record


def _require_of(line: Line, log_name: str, unit: Unit) -> None:
    if line.pop("target") != log_name:
        raise ValueError(f"it is of another target than {log_name}")
    if line.pop("unit") != unit:
        raise ValueError(f"its unit is not {unit}")


def _require_empty(line: Iterable[str]) -> None:
    if line:
        raise ValueError(f"unknown field {', '.join(line)}")


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

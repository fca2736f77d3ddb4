"""The counts on the emulated board as rows of the JSON file, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from results_file import Result

from engines.arm_count import Counted
from engines.base import ENGINES
from engines.results import OURS, Row

METHOD = (
    "one warm inference, one thread, batch 1; every output was compared with PyTorch's "
    "before it was counted. Of an engine, the difference between four and two inferences in one "
    "process, halved, array in and array out of Python; of tvm_eff, the second inference in "
    "TVM's RPC server, its input in place. FMAs are vector instructions, those included that "
    "multiply integers or sum their products; a load or store of several registers counts once."
)


def row_of(counted: Mapping[str, Counted], *, model: str, macs: int) -> Row:
    """Return the counts of one model as a row, with the ratios to the best peer."""
    peers = {
        name: each.mix.instructions
        for name, each in counted.items()
        if name != OURS and each.mix is not None
    }
    best = min(peers, key=lambda name: peers[name], default=None)
    figures = {
        name: _figures(each, peers[best] if best is not None else None)
        for name, each in counted.items()
    }
    return {"model": model, "macs": macs, "best_peer": best, "engines": figures}


def _figures(counted: Counted, best: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {"versions": dict(counted.versions)}
    if counted.error is not None:
        found["error"] = counted.error if np.isfinite(counted.error) else None
    if counted.mix is None:
        return {**found, "failure": counted.failure or "it was not counted"}
    found |= asdict(counted.mix)
    if best is not None:
        found["ratio_to_best_peer"] = round(counted.mix.instructions / best, 4)
    return found


def markdown(result: Result) -> str:
    """Return all rows as Markdown."""
    rows: list[Row] = result.data["rows"]
    lines = [
        "# Our library and its peers on an emulated board",
        "",
        f"{result.data['where']}, {result.data['dtype']}, executed instructions, not latencies: "
        f"{METHOD} "
        f"{result.provenance}",
        "",
        "Millions an inference; in brackets the ratio to the best engine that is not ours.",
        "",
        "| model | engine | instructions | FMAs | loads | stores | instructions an FMA "
        "| largest error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines += [_line(row["model"], name, found) for name, found in row["engines"].items()]
    failures = _failures(rows)
    if failures:
        lines += ["", "| model | engine | why it was not counted |", "|---|---|---|", *failures]
    return "\n".join([*lines, "", *_notes(rows)]) + "\n"


def _line(model: str, name: str, found: dict[str, Any]) -> str:
    if "failure" in found:
        return f"| {model} | {name} | failed | | | | | |"
    ratio = found.get("ratio_to_best_peer")
    total = f"{found['instructions'] / 1e6:.1f}" + (f" ({ratio:.2f})" if ratio else "")
    kinds = [f"{found[kind] / 1e6:.1f}" for kind in ("fmas", "loads", "stores")]
    density = f"{found['instructions'] / found['fmas']:.2f}" if found["fmas"] else "-"
    cells = [model, name, total, *kinds, density, f"{found['error']:.1e}"]
    return "| " + " | ".join(cells) + " |"


def _failures(rows: Sequence[Row]) -> list[str]:
    return [
        f"| {row['model']} | {name} | {found['failure'].replace('|', '/')} |"
        for row in rows
        for name, found in row["engines"].items()
        if "failure" in found
    ]


def _notes(rows: Sequence[Row]) -> list[str]:
    versions: dict[str, str] = {}
    for row in rows:
        for found in row["engines"].values():
            versions |= found["versions"]
    names = {name for row in rows for name in row["engines"]}
    notes = [f"{e.name}: {e.note}." for e in ENGINES if e.note and e.name in names]
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [*notes, f"Versions: {told}."]

"""Samples as a row of the results, and as a section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from results_file import Result

from sampling.perf import Samples
from sampling.x86 import Loop, multiply_adds

MULTIPLYING, AROUND, MIXED, WITHOUT, BESIDE = KINDS = (
    "multiplying",
    "around",
    "mixed",
    "without",
    "beside",
)
"""Kinds of code: loops of which at least half the instructions are vector multiply-adds, loops
around those, loops with fewer, code of the library without any, and what is not the library's."""


def row(model: str, threads: int, samples: Samples, loops: Sequence[Loop]) -> dict[str, Any]:
    """Return where the time of an inference goes, in milliseconds, and the hottest loop."""
    counted = dict.fromkeys(KINDS, 0) | {BESIDE: samples.beside}
    for loop in loops:
        counted[_kind(loop)] += loop.samples
    every = sum(counted.values())
    hottest = next(loop for loop in loops if loop.body)
    return {
        "model": model,
        "threads": threads,
        "ms": round(samples.milliseconds, 3),
        "samples": every,
        "kinds_ms": {
            kind: round(samples.milliseconds * n / every, 4) for kind, n in counted.items()
        },
        "hottest": {
            "ms": round(samples.milliseconds * hottest.samples / every, 4),
            "fmas": hottest.fmas,
            "loads": hottest.loads,
            "body": list(hottest.body),
        },
    }


def _kind(loop: Loop) -> str:
    if loop.fmas and _multiplies(loop.body):
        return MULTIPLYING
    if any(_multiplies(body) for body in loop.within):
        return AROUND
    return MIXED if loop.fmas else WITHOUT


def _multiplies(body: Sequence[str]) -> bool:
    return 2 * multiply_adds(body) >= len(body)


def section(result: Result) -> list[str]:
    """Return the rows as a table, and the hottest loop of the first one."""
    rows = result.data["rows"]
    lines = [
        result.provenance,
        "",
        "Milliseconds of an inference, by where perf's "
        "samples found the processor. Multiplying: innermost loops of which at least half the "
        "instructions are vector multiply-adds. Around: what stands around those, such as the "
        "beginning and end of a tile, where the processor also waits for the last of them. Mixed: "
        "loops with fewer multiply-adds. Without: sums, transforms, copies, pooling. Beside: what "
        "is not the library's, such as threads that wait for one another.",
        "",
        "| model | threads | inference | multiplying | around | mixed | without | beside "
        "| hottest loop | its instructions, multiply-adds, loads |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        kinds = " | ".join(
            f"{each['kinds_ms'][kind]:.2f} ({each['kinds_ms'][kind] / each['ms']:.0%})"
            for kind in KINDS
        )
        hottest = each["hottest"]
        lines.append(
            f"| {each['model']} | {each['threads']} | {each['ms']:.2f} | {kinds} "
            f"| {hottest['ms']:.2f} "
            f"| {len(hottest['body'])}, {hottest['fmas']}, {hottest['loads']} |"
        )
    first = rows[0]
    lines += ["", f"The hottest loop of {first['model']}, {first['hottest']['ms']:.2f} ms:", ""]
    return [*lines, "```asm", *first["hottest"]["body"], "```"]

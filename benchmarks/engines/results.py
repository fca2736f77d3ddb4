"""What a comparison says in numbers: one row a model, batch and number of threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from engines.turns import Comparison, Outcome

OURS = "tvm_eff"

OURS_IN_FLOAT32 = "tvm_eff, float32"
"""Beside the others in int8."""

Row = dict[str, Any]
"""A row as the JSON file has it."""


def row_of(
    comparison: Comparison,
    *,
    model: str,
    shape: tuple[int, ...],
    threads: int,
    macs: int,
    peak_flops: float,
) -> Row:
    """Return a comparison as a row, with the ratios to the best engine that is not ours."""
    outcomes = comparison.outcomes
    peers = {
        name: _median(o)
        for name, o in outcomes.items()
        if name not in (OURS, OURS_IN_FLOAT32) and o.rounds
    }
    best = min(peers, key=lambda name: peers[name], default=None)
    engines = {
        name: _figures(outcome, outcomes[best] if best is not None else None, macs, peak_flops)
        for name, outcome in outcomes.items()
    }
    return {
        "model": model,
        "batch": shape[0],
        "threads": threads,
        "shape": list(shape),
        "macs": macs,
        "peak_gflops": round(peak_flops / 1e9, 1),
        "best_peer": best,
        **_quietness(comparison),
        "engines": engines,
    }


def _quietness(comparison: Comparison) -> dict[str, Any]:
    seen = {name: round(value, 3) for name, value in asdict(comparison.quietness).items()}
    return {
        "disturbed": bool(comparison.disturbances),
        "disturbances": list(comparison.disturbances),
        "attempts": comparison.attempts,
        "quietness": seen,
    }


def _figures(
    outcome: Outcome, best: Outcome | None, macs: int, peak_flops: float
) -> dict[str, Any]:
    found: dict[str, Any] = {"versions": dict(outcome.versions)}
    if outcome.error is not None:
        found["error"] = outcome.error if np.isfinite(outcome.error) else None
    if outcome.failure is not None or not outcome.rounds:
        return {**found, "failure": outcome.failure or "it was not timed"}
    calls = np.concatenate([np.asarray(each) for each in outcome.rounds])
    for percent in (10, 50, 90):
        found[f"p{percent}_ms"] = round(float(np.percentile(calls, percent)) * 1e3, 4)
    median = _median(outcome)
    found["calls"] = len(calls)
    found["fraction_of_peak"] = round(2 * macs / median / peak_flops, 4)
    found["round_p50_ms"] = [
        round(float(np.median(each)) * 1e3, 4) for each in outcome.rounds if each
    ]
    found |= _used(outcome)
    if best is not None:
        found["ratio_to_best_peer"] = round(median / _median(best), 4)
        found |= _spread_of_ratio(outcome, best)
    return found


def _spread_of_ratio(outcome: Outcome, best: Outcome) -> Mapping[str, float]:
    """How much the ratio differs from round to round; turns of a round are seconds apart."""
    both = zip(outcome.rounds, best.rounds, strict=True)
    pairs = [(mine, theirs) for mine, theirs in both if mine and theirs]
    ratios = [float(np.median(mine) / np.median(theirs)) for mine, theirs in pairs]
    if not ratios:
        return {}
    return {f"ratio_p{p}": round(float(np.percentile(ratios, p)), 4) for p in (10, 90)}


def _used(outcome: Outcome) -> dict[str, float]:
    """Return the cores and threads an engine used, and how its memory grew between turns."""
    found: dict[str, float] = {}
    for name, digits in (("cores", 2), ("threads", 0)):
        values = [value for each in outcome.usage if (value := each[name]) is not None]
        if values:
            found[f"{name}_used"] = round(float(np.median(values)), digits)
    memory = [value for each in outcome.usage if (value := each["memory_mb"]) is not None]
    if memory:
        found["memory_mb"] = round(memory[-1], 1)
        found["memory_growth_mb"] = round(memory[-1] - memory[0], 1)
    peaks = [value for each in outcome.usage if (value := each.get("peak_mb")) is not None]
    if peaks:
        found["peak_mb"] = round(max(peaks), 1)
    return found


def _median(outcome: Outcome) -> float:
    return float(np.median(np.concatenate([np.asarray(each) for each in outcome.rounds])))

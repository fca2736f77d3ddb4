"""The page of performance: written from results alone, whatever of them is there."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import performance  # noqa: E402

SHIPPED = [
    "peers",
    "arm-rasp4",
    "tuning",
    "layers-host",
    "samples-host",
    "layers-rasp4",
    "hotloops-rasp4-mobilenet",
]


def page(folder: Path, **results: object) -> str:
    for name, result in results.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(result))
    output = folder / "performance.md"
    performance.main(["--results", str(folder), "--output", str(output)])
    return output.read_text()


def test_what_is_absent_is_said(tmp_path: Path) -> None:
    text = page(tmp_path)
    for name in SHIPPED:
        assert f"No {name}.json yet." in text


def peers_row(model: str, ours: dict, **others: dict) -> dict:
    best = min((n for n in others if "p50_ms" in others[n]), default=None)
    engines = {"tvm_eff": ours, **others}
    return {"model": model, "batch": 1, "threads": 2, "best_peer": best, "engines": engines}


def timed(ms: float, ratio: float) -> dict:
    spread = {"p10_ms": ms, "p50_ms": ms, "p90_ms": ms}
    return {**spread, "ratio_to_best_peer": ratio, "fraction_of_peak": 0.5}


def test_engines_that_were_not_timed_are_listed_with_their_reason(tmp_path: Path) -> None:
    failed = {"failure": "RuntimeError: no converter"}
    rows = [
        peers_row("fast", timed(1, 0.5), a=timed(2, 1), b=failed),
        peers_row("slow", timed(3, 1.5), a=timed(2, 1), b=failed),
        peers_row("broken", {"failure": "wrong result"}, a=timed(2, 1)),
        peers_row("alone", timed(2, 1), a=failed),
    ]
    result = {"machine": "m", "date": "2026-01-01", "note": "A slow day.", "rows": rows}
    text = page(tmp_path, peers=result)
    assert "taking turns. A slow day.\n" in text
    assert "fastest in 1 of 2 comparisons with a, b" in text
    assert "0.50 times the best other's at best (fast, batch 1, 2 threads)" in text
    assert "1.50 times at worst (slow, batch 1, 2 threads)" in text
    assert "| slow | 1 | 2 | 3.00 | a 2.00 | 1.50 | - | 50% |" in text
    assert "- b: RuntimeError: no converter (fast, batch 1, 2 threads; slow" in text
    assert "- tvm_eff: wrong result (broken" in text


def host_row(name: str, alone: float, there: float, macs: int, moved: int) -> dict:
    times = {"alone_s": alone, "in_network_s": there}
    return {"kernel": name, "calls": 1, "macs": macs, "bytes": moved, **times}


LAYERS = {
    "machine": "m",
    "threads": 2,
    "date": "2026-01-01",
    "peak_gflops": 100.0,
    "models": {"net": [host_row("conv a", 1e-3, 1.2e-3, 50_000_000, 1000)]},
}


def test_each_network_has_sentences_about_what_holds_it(tmp_path: Path) -> None:
    result = LAYERS | {"bandwidth_gbs": {"near": 200.0, "far": 20.0}}
    text = page(tmp_path, layers_host=result)
    assert "Its kernels take 1.20 ms together" in text
    assert "**arithmetic**: 1.20 ms (100% of the network), 0.20 ms above" in text
    assert "| conv a | 1 | 50.00 | 0.00 | 1000 (100%) | 1200 (83%) | arithmetic |" in text


def test_results_of_an_older_run_are_told_to_be_made_again(tmp_path: Path) -> None:
    assert "without a bandwidth" in page(tmp_path, layers_host=LAYERS)


def test_instructions_are_no_latencies(tmp_path: Path) -> None:
    counts = {"instructions": 3_000_000, "fmas": 2_000_000, "loads": 500_000, "stores": 1}
    row = {"kernel": "conv a", "calls": 2, "macs": 8_000_000, **counts}
    result = {"target": "rasp4", "where": "emulated", "date": "d", "models": {"net": [row]}}
    text = page(tmp_path, layers_rasp4=result)
    assert "3.0 million instructions an inference, of which 2.0" in text
    assert "| conv a | 2 | 8.00 | 3.00 | 2.00 | 0.50 | 0.00 | 1.50 |" in text
    assert "No latencies." in text


@pytest.mark.parametrize("name", SHIPPED)
def test_results_that_ship_can_be_written(name: str, tmp_path: Path) -> None:
    shipped = ROOT / "benchmarks" / "results" / f"{name}.json"
    text = page(tmp_path, **{name.replace("-", "_"): json.loads(shipped.read_text())})
    assert re.search(r"^\| .*\d", text, re.MULTILINE)
    for image in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (tmp_path / image).read_bytes().startswith(b"\x89PNG")
    assert ("png" in text) == (name in ("peers", "tuning"))

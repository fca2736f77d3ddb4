"""The README's figures: replaced between their marks, from whatever results there are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import readme  # noqa: E402


def written(folder: Path, rows: list[dict] | None) -> str:
    text = folder / "README.md"
    text.write_text(f"before\n{readme.BEGIN}old figures\n{readme.END}\nafter\n")
    if rows is not None:
        result = {"machine": "m", "cores": 2, "date": "2026-01-01", "rows": rows}
        (folder / "peers.json").write_text(json.dumps(result))
    readme.main(["--results", str(folder), "--readme", str(text)])
    return text.read_text()


def test_without_results_only_the_marks_are_left(tmp_path: Path) -> None:
    assert written(tmp_path, None) == f"before\n{readme.BEGIN}\n{readme.END}\nafter\n"


def test_an_engine_that_was_not_timed_has_no_figure(tmp_path: Path) -> None:
    timed = {"p50_ms": 2.0, "ratio_to_best_peer": 0.5}
    failed = {"failure": "no converter"}
    common = {"batch": 1, "threads": 1}
    rows = [
        {"model": "a", **common, "engines": {"tvm_eff": timed, "ncnn": failed}},
        {"model": "b", **common, "engines": {"tvm_eff": failed, "ncnn": {"p50_ms": 4.0}}},
        {"model": "c", "batch": 8, "threads": 1, "engines": {"tvm_eff": timed}},
    ]
    text = written(tmp_path, rows)
    assert "| a | 1 | 2.00 | - | 0.50 |" in text
    assert "| b | 1 | - | 4.00 | - |" in text
    assert "old figures" not in text and "| c |" not in text
    assert text.startswith("before") and text.endswith("after\n")


def test_a_gpu_without_its_board_is_said_to_be_none(tmp_path: Path) -> None:
    row = {"model": "a", "default_ms": 115.2, "ms": 4.54, "error": 5.7e-07, "tuning_s": 30.4}
    about = {"target": "x-mali", "where": "PoCL on this machine (c)", "dtype": "float32"}
    result = {**about, "date": "2026-01-01", "rows": [row]}
    (tmp_path / "opencl-x-mali.json").write_text(json.dumps(result))
    checked = {"target": "x-mali", "rows": [{"model": "a", "valid": True}]}
    (tmp_path / "opencl-sources-x-mali.json").write_text(json.dumps(checked))
    text = written(tmp_path, None)
    assert "PoCL on a host (c), float32," in text
    assert "no board's times" in text
    assert text.count("| a |") == 1
    assert "| a | 115 | 4.5 | 5.7e-07 of the spread | 30 s |" in text

"""The README's figures: replaced between their marks, from whatever results there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from result_files import ROOT, result_of

import readme  # isort: skip
from emulated import millions


def written(folder: Path, *options: str) -> str:
    text = folder / "README.md"
    text.write_text(f"before\n{readme.BEGIN}old figures\n{readme.END}\nafter\n")
    assert readme.main(["--results", str(folder), "--readme", str(text), *options]) == 0
    return text.read_text()


def test_without_results_only_the_marks_are_left(tmp_path: Path) -> None:
    assert written(tmp_path) == f"before\n{readme.BEGIN}{readme.END}\nafter\n"


def test_a_readme_without_the_marks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "README.md"
    text.write_text("no place")
    assert readme.main(["--results", str(tmp_path), "--readme", str(text)]) == 2
    assert "README.md has no place for figures" in capsys.readouterr().err


def test_figures_of_different_commits_are_refused_and_the_readme_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result_of({"rounds": 3, "rows": []}).write(tmp_path / "peers.json")
    emulated(tmp_path, 2e9, commit=None)
    text = tmp_path / "README.md"
    text.write_text(f"{readme.BEGIN}old figures\n{readme.END}")
    assert readme.main(["--results", str(tmp_path), "--readme", str(text)]) == 2
    assert "emulated-x.json: commit not recorded; peers.json: commit 0123" in (
        capsys.readouterr().err
    )
    assert "old figures" in text.read_text()
    mixed = " ".join(written(tmp_path, "--allow-mixed").split())
    assert "Commit not recorded, m (2 threads)" in mixed
    assert "Commit 0123456789ab, m (2 threads)" in mixed


def test_an_engine_that_was_not_timed_has_no_figure(tmp_path: Path) -> None:
    timed = {"p50_ms": 2.0, "ratio_to_best_peer": 0.5}
    failed = {"failure": "no converter"}
    common = {"batch": 1, "threads": 1}
    rows = [
        {"model": "a", **common, "engines": {"tvm_eff": timed, "ncnn": failed}},
        {
            "model": "b",
            **common,
            "engines": {"tvm_eff": failed, "ncnn": {"p50_ms": 4.0}},
            "disturbed": True,
        },
        {"model": "c", "batch": 8, "threads": 1, "engines": {"tvm_eff": timed}},
    ]
    result_of({"rounds": 3, "rows": rows}).write(tmp_path / "peers.json")
    text = written(tmp_path)
    assert "| a | 1 | 2.00 | - | 0.50 |" in text
    assert "| b (!) | 1 | - | 4.00 | - |" in text
    assert "(!): the machine was never quiet." in " ".join(text.split())
    assert "old figures" not in text and "| c |" not in text
    assert text.startswith("before") and text.endswith("after\n")


def emulated(folder: Path, before: float | None, **envelope: Any) -> None:
    row = {
        "model": "a",
        "where": "emulated x",
        "instructions_before": before,
        "instructions": 71.4e6,
        "largest_error": 4.9e-07,
        "candidates": 3,
        "seconds_cold": 67.0,
        "seconds_with_records": 14.0,
    }
    result_of({"target": "x", "models": [row]}, **envelope).write(folder / "emulated-x.json")


def test_what_a_run_has_not_measured_unscheduled_is_a_dash(tmp_path: Path) -> None:
    emulated(tmp_path, None)
    assert "| a | - | 71.4 | 4.9e-07 of the spread | 67 s | 14 s |" in written(tmp_path)
    emulated(tmp_path, 883e6)
    assert "| a | 883 | 71.4 |" in written(tmp_path)
    assert (millions(None), millions(1e6)) == ("-", "1")


def test_a_gpu_without_its_board_is_said_to_be_none(tmp_path: Path) -> None:
    row = {"model": "a", "default_ms": 115.2, "ms": 4.54, "error": 5.7e-07, "tuning_s": 30.4}
    about = {"target": "x-mali", "where": "PoCL on this machine (c)", "dtype": "float32"}
    result = result_of({**about, "rows": [{**row, "faster": 25.4}]})
    result.write(tmp_path / "opencl-x-mali.json")
    text = " ".join(written(tmp_path).split())
    assert "PoCL on a host (c), float32;" in text
    assert "no board's times" in text and "25 to 25 times as fast" in text
    assert text.count("| a |") == 1
    assert "| a | 115 | 4.5 | 5.7e-07 of the spread | 30 s |" in text


def test_the_readme_that_ships_has_the_figures_of_its_results(tmp_path: Path) -> None:
    shipped = (ROOT / "README.md").read_text()
    copy = tmp_path / "README.md"
    copy.write_text(shipped)
    assert readme.main(["--readme", str(copy)]) == 0
    assert copy.read_text() == shipped, "run python benchmarks/readme.py"

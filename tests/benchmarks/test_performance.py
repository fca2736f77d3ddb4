"""The page of performance: written from results alone, whatever of them is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from result_files import ROOT, result_of

import performance  # isort: skip
import results_file  # isort: skip
from engines.results import Row

SHIPPED = ["peers", "arm-rasp4", "tuning", "opencl-rk3399-mali"]
MAX_LINES = 200


def page(folder: Path, *options: str) -> str:
    output = folder / "performance.md"
    arguments = ["--results", str(folder), "--output", str(output), *options]
    assert performance.main(arguments) == 0
    return output.read_text()


def test_what_is_absent_is_said(tmp_path: Path) -> None:
    text = page(tmp_path)
    for name in ("peers.json", "arm-rasp4.json", "tuning.json", "opencl-*-mali*.json"):
        assert f"No {name} yet." in text


def test_a_file_without_its_commit_is_refused_and_the_page_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "peers.json").write_text('{"machine": "m", "date": "2026-01-01", "rows": []}')
    output = tmp_path / "performance.md"
    output.write_text("as it was")
    arguments = ["--results", str(tmp_path), "--output", str(output)]
    assert performance.main(arguments) == 2
    assert "peers.json" in capsys.readouterr().err
    assert output.read_text() == "as it was"


def peers_row(model: str, ours: Row, **others: Row) -> Row:
    best = min((n for n in others if "p50_ms" in others[n]), default=None)
    engines = {"tvm_eff": ours, **others}
    return {"model": model, "batch": 1, "threads": 2, "best_peer": best, "engines": engines}


def timed(ms: float, ratio: float) -> Row:
    spread = {"p10_ms": ms, "p50_ms": ms, "p90_ms": ms}
    return {**spread, "ratio_to_best_peer": ratio, "fraction_of_peak": 0.5}


def write_peers(folder: Path, rows: list[Row], **envelope: Any) -> None:
    result_of({"rounds": 3, "rows": rows}, **envelope).write(folder / "peers.json")


def test_engines_that_were_not_timed_are_listed_with_their_reason(tmp_path: Path) -> None:
    failed = {"failure": "RuntimeError: no converter"}
    rows = [
        peers_row("fast", timed(1, 0.5), a=timed(2, 1), b=failed),
        peers_row("slow", timed(3, 1.5), a=timed(2, 1), b=failed),
        peers_row("broken", {"failure": "wrong result"}, a=timed(2, 1)),
        peers_row("alone", timed(2, 1), a=failed),
    ]
    write_peers(tmp_path, rows)
    text = page(tmp_path)
    assert "fastest in 1 of 2 comparisons with a, b" in text
    assert "0.50 times the best other's at best (fast, batch 1, 2 threads)" in text
    assert "1.50 times at worst (slow, batch 1, 2 threads)" in text
    assert "| slow | 1 | 2 | 3.00 | a 2.00 | 1.50 | - | 50% |" in text
    assert "- b: RuntimeError: no converter (fast, batch 1, 2 threads; slow" in text
    assert "- tvm_eff: wrong result (broken" in text


def test_a_row_of_a_machine_that_was_not_quiet_is_marked_with_the_reason(tmp_path: Path) -> None:
    why = {"disturbed": True, "attempts": 3, "disturbances": ["other programs took 20%"]}
    quiet = peers_row("calm", timed(1, 0.5), a=timed(2, 1)) | {"disturbed": False}
    write_peers(tmp_path, [peers_row("loud", timed(1, 0.5), a=timed(2, 1)) | why, quiet])
    text = page(tmp_path)
    assert "| loud (!) | 1 | 2 | 1.00 |" in text and "| calm | 1 | 2 | 1.00 |" in text
    assert "- loud, batch 1, 2 threads, the quietest of 3 attempts: other programs took" in text


def test_beside_each_table_stand_its_commit_machine_and_day(tmp_path: Path) -> None:
    write_peers(tmp_path, [peers_row("net", timed(1, 0.5), a=timed(2, 1))])
    provenance = results_file.read(tmp_path / "peers.json").provenance
    assert f"## Latency, against other engines\n\n{provenance}\n" in page(tmp_path)


def test_tables_of_different_commits_are_refused_or_each_says_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_peers(tmp_path, [peers_row("net", timed(1, 0.5), a=timed(2, 1))], commit="a" * 40)
    counted = {"instructions": 3_000_000, "fmas": 2_000_000}
    ours = counted | {"ratio_to_best_peer": 0.75}
    peer = {"instructions": 4_000_000, "fmas": 2_000_000}
    row = {"model": "net", "best_peer": "a", "engines": {"tvm_eff": ours, "a": peer}}
    arm = result_of({"where": "emulated", "rows": [row]}, commit="b" * 40)
    arm.write(tmp_path / "arm-rasp4.json")
    output = tmp_path / "performance.md"
    assert performance.main(["--results", str(tmp_path), "--output", str(output)]) == 2
    assert "--allow-mixed" in capsys.readouterr().err
    assert not output.exists()
    text = page(tmp_path, "--allow-mixed")
    assert "**The tables are of different commits**" in text
    assert f"Commit {'a' * 12}, m" in text and f"Commit {'b' * 12}, m" in text
    assert "| net | 3.0 | 4.0 | 0.75 | 2.0 |" in text
    assert "executes the fewest in 1 of 1 comparisons with a; its number is 0.75" in text


def test_the_page_that_ships_is_what_its_results_say_and_is_short(tmp_path: Path) -> None:
    shipped = ROOT / "docs" / "performance.md"
    output = tmp_path / "performance.md"
    assert performance.main(["--output", str(output)]) == 0
    text = output.read_text()
    assert text == shipped.read_text(), "run python benchmarks/performance.py"
    assert len(text.splitlines()) < MAX_LINES


@pytest.mark.parametrize("name", SHIPPED)
def test_results_that_ship_can_be_written(name: str, tmp_path: Path) -> None:
    results_file.read(results_file.RESULTS / f"{name}.json").write(tmp_path / f"{name}.json")
    text = page(tmp_path)
    assert re.search(r"^\| .*\d", text, re.MULTILINE)
    for image in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (tmp_path / image).read_bytes().startswith(b"\x89PNG")
    assert ("png" in text) == (name in ("peers", "tuning"))

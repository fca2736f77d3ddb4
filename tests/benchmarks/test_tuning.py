"""The comparison of tuners: what it refuses, what it reads, what it says of it."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest
from result_files import result_of

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import tuning  # noqa: E402
from tuners import report  # noqa: E402
from tuners.process import listen, search  # noqa: E402
from tuners.results import Found, best_against_time, first_within, found_of  # noqa: E402

from tvm_eff.tune import Task  # noqa: E402

HERE = Path(__file__).parent


def test_an_unknown_model_is_named_before_anything_is_tuned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert tuning.main(["--model", "squeezenet9", "--output", str(output)]) == 2
    assert "squeezenet9" in capsys.readouterr().err
    assert not output.exists()


def test_a_budget_that_is_no_time_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        tuning.main(["--stock-budget", "soon"])
    assert ended.value.code == 2
    assert "soon" in capsys.readouterr().err


def test_a_cost_model_that_is_missing_is_told_before_anything_is_tuned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    output = tmp_path / "out"
    packages = ["--stock-packages", str(tmp_path / "none")]
    assert tuning.main([*packages, "--output", str(output)]) == 2
    assert "pip install --no-deps --target" in capsys.readouterr().err
    assert not output.exists()


def listened(program: str, folder: Path, budget: float) -> Found:
    return listen([sys.executable, "-c", program], folder, budget, cores=1)


def test_a_tuner_that_crashes_says_why_and_keeps_what_it_delivered(tmp_path: Path) -> None:
    program = "print('[0, 0.5, null]', flush=True); raise MemoryError('no room')"
    found = listened(program, tmp_path, 60)
    assert found.failure == "ended with exit code 1: MemoryError: no room"
    assert len(found.measured) == 1


def test_a_tuner_is_ended_with_its_children_when_its_time_is_over(tmp_path: Path) -> None:
    child = tmp_path / "child"
    program = f"""
import subprocess, sys, time
print('"ready"', flush=True)
process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(child)!r}, "w").write(str(process.pid))
print('[0, 0.5, null]', flush=True)
time.sleep(600)
"""
    found = listened(program, tmp_path, 3)
    assert found.failure is None and found.ready_s is not None and len(found.measured) == 1
    stat = Path(f"/proc/{child.read_text()}/stat")
    for _ in range(100):
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the tuner's child still runs")


LINES = [
    (1.0, "ready"),
    (2.0, [0, 4e-3, None]),
    (3.0, [0, None, "it crashed"]),
    (4.0, [1, 2e-3, None]),
    (5.0, [1, 3e-3, None]),
    (8.0, [0, 1e-3, None]),
    (9.0, [1, None, "it crashed"]),
]


def test_candidates_a_second_count_those_that_work_until_the_last_of_them() -> None:
    found = found_of(LINES, 20.0, 4, None)
    assert (len(found.measured), found.failed, found.ready_s) == (4, 2, 1.0)
    assert found.reasons == {"it crashed": 2}
    assert found.per_second == 0.5
    assert found_of([(1.0, "ready")], 20.0, 0, None).per_second == 0


def test_the_curve_begins_when_every_kernel_works_and_weighs_calls() -> None:
    measured = found_of(LINES, 20.0, 4, None).measured
    curve = best_against_time(measured, [2, 1])
    assert [seconds for seconds, _ in curve] == [4.0, 8.0]
    assert [value for _, value in curve] == pytest.approx([10e-3, 4e-3])
    assert best_against_time(measured, [2, 1, 1]) == []
    assert first_within(curve, 0.03) == 8.0
    assert first_within(curve, 2.0) == 4.0


def test_the_report_tells_of_a_tuner_without_candidates_and_of_a_wrong_winner(
    tmp_path: Path,
) -> None:
    ours, stock = found_of(LINES, 20.0, 4, None), found_of([], 30.0, None, "ended | so")
    winners = {"tvm_eff": {"error": 1e-7, "seconds": 1e-3}, "MetaSchedule": None}
    wrong = {"tvm_eff": {"error": 0.5, "seconds": None}}
    row = {
        "model": "net",
        "kernels": [
            {"kernel": "conv a", "calls": 2, "winners": {"tvm_eff": winners["tvm_eff"]}},
            {"kernel": "conv b", "calls": 1, "winners": wrong},
        ],
        "tuners": {"tvm_eff": ours.as_dict(), "MetaSchedule": stock.as_dict()},
    }
    result = result_of(json.loads(json.dumps({"stock_batch": 64, "models": [row]})))
    text = report.markdown(result)
    assert "| net | 2 | tvm_eff | 4 | 2 | 0.50 | 4 s | 8 s | 4.000 | - |" in text
    assert "| net | 2 | MetaSchedule | 0 | 0 | 0.00 | - | - | - | - |" in text
    assert "| conv a | 2 | 1000.0 (1.0e-07) | none |" in text
    assert "| conv b | 1 | wrong (5.0e-01) | none |" in text
    assert "MetaSchedule ended | so" in text
    assert "tvm_eff, 2 times: it crashed" in text
    report.plot(result, tmp_path / "tuning.png")
    assert (tmp_path / "tuning.png").stat().st_size > 1000


def test_our_tuner_delivers_candidates_of_a_small_kernel(tmp_path: Path) -> None:
    from tvm import te

    a = te.placeholder((8, 64), name="a")
    b = te.compute((8, 64), lambda i, j: a[i, j] * 2.0, name="b")
    task = Task("double", te.create_prim_func([a, b]), 3)
    found = search("tvm_eff", [task], tmp_path, 120)
    assert found.failure is None
    assert found.ready_s is not None and len(found.measured) > 0
    assert all(kernel == 0 and value > 0 for _, kernel, value in found.measured)

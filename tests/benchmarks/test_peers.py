"""Engines of a benchmark take turns: who is timed, who is not and why, and what is reported."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from engines import report  # noqa: E402
from engines.base import Engine, Job  # noqa: E402
from engines.process import EngineProcess  # noqa: E402
from engines.results import row_of  # noqa: E402
from engines.turns import Comparison, Options, Outcome, compare  # noqa: E402

X = np.linspace(-1, 1, 12, dtype="float32").reshape(1, 3, 2, 2)


def ignore(text: str) -> None:
    """Hear nothing."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with an input, where fake engines are found by their processes."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    np.save(tmp_path / "input.npy", X)
    return tmp_path


def job(folder: Path, behaviour: str, module: str = "fake_engine") -> Job:
    return Job(module, ("numpy",), behaviour, X.shape, folder, None, (0,))


def options(folder: Path, timeout: float = 20.0) -> Options:
    return Options(2, 0.001, timeout, Path(sys.executable), folder)


def run(folder: Path, *behaviours: str, timeout: float = 20.0) -> Comparison:
    jobs = {
        Engine(name, f"fake_engine_{i}", ("numpy",), ours=True): job(folder, name)
        for i, name in enumerate(behaviours)
    }
    return compare(jobs, 2 * X, options(folder, timeout), ignore)


def test_an_engine_that_is_wrong_is_not_timed(folder: Path) -> None:
    found = run(folder, "wrong", "right").outcomes
    assert found["wrong"].failure is not None and "wrong result" in found["wrong"].failure
    assert found["wrong"].error == pytest.approx(2e-4, rel=0.01)
    assert found["wrong"].rounds == ()
    assert found["right"].failure is None and found["right"].error == 0


def test_an_engine_that_is_missing_says_so(folder: Path) -> None:
    engine = Engine("missing", "no_such_engine", ("numpy",), ours=True)
    jobs = {engine: job(folder, "right", "no_such_engine")}
    failure = compare(jobs, 2 * X, options(folder), ignore).outcomes["missing"].failure
    assert failure == "not installed: No module named 'no_such_engine'"


def test_engines_that_die_or_hang_do_not_stop_the_others(folder: Path) -> None:
    found = run(folder, "dies", "hangs", "dies later", "right", timeout=3).outcomes
    assert "SIGABRT" in str(found["dies"].failure)
    assert found["hangs"].failure == "no answer within 3 s"
    assert "no room for the twenty-first time" in str(found["dies later"].failure)
    assert found["dies later"].rounds == ()
    assert found["right"].failure is None


def test_each_round_has_a_turn_of_every_engine(folder: Path) -> None:
    found = run(folder, "right", "spins").outcomes
    for outcome in found.values():
        assert [len(each) > 1 for each in outcome.rounds] == [True, True]
        assert outcome.versions["numpy"] == np.__version__


def test_an_engine_that_spins_takes_no_core_from_the_others(folder: Path) -> None:
    process = EngineProcess(
        Path(sys.executable), "serve", job(folder, "spins"), folder / "log", timeout=20
    )
    try:
        before = process.cpu_seconds()
        time.sleep(0.2)
        assert process.cpu_seconds() > before, "it should spin while it may run"
        process.stop()
        stopped = process.cpu_seconds()
        time.sleep(0.3)
        assert process.cpu_seconds() == stopped
        with process.turn():
            assert len(process.ask(calls=3, warm_up_s=0)["seconds"]) == 3
    finally:
        process.kill()


def test_a_slow_engine_takes_fewer_turns_spread_over_all_rounds(folder: Path) -> None:
    engine = Engine("slow", "fake_engine_slow", ("numpy",), ours=True)
    chosen = replace(options(folder), rounds=9, engine_budget_s=1e-6)
    found = compare({engine: job(folder, "right")}, 2 * X, chosen, ignore).outcomes["slow"]
    taken = [place for place, each in enumerate(found.rounds) if each]
    assert taken == [2, 5, 8], "three turns, however little time there is"
    assert len(found.usage) == 3


@pytest.mark.parametrize(("behaviour", "least"), [("right", 0.0), ("busy twice", 2.0)])
def test_threads_that_work_are_counted(folder: Path, behaviour: str, least: float) -> None:
    process = EngineProcess(
        Path(sys.executable), "serve", job(folder, behaviour), folder / "log", timeout=20
    )
    try:
        used = process.ask(calls=5, warm_up_s=0)["usage"]
    finally:
        process.kill()
    assert used["threads"] >= least
    assert used["cores"] <= 1.1, "it may run on one core"
    assert used["memory_mb"] > 1


def test_an_engine_with_other_threads_than_it_was_told_is_marked() -> None:
    used = {"cores": 1.9, "threads": 4.0, "memory_mb": 100.0}
    grown = {"cores": 1.9, "threads": 4.0, "memory_mb": 160.0}
    found = row(tvm_eff=outcome(2, 2), a=replace(outcome(4, 4), usage=(used, grown)))
    result = {"machine": "m", "cores": 2, "date": "2026-01-01", "rounds": 1, "rows": [found]}
    text = report.markdown(result)
    assert "| 1.90 | 4 of 2 (!) | 160 (+60) |" in text
    assert found["engines"]["a"]["threads_used"] == 4


def outcome(*milliseconds: float) -> Outcome:
    return Outcome(error=1e-7, rounds=tuple((each / 1e3,) * 3 for each in milliseconds))


def row(**outcomes: Outcome) -> dict:
    comparison = Comparison(outcomes, other_load=0.2)
    return row_of(
        comparison, model="net", shape=(8, 3, 2, 2), threads=2, macs=10**6, peak_flops=1e9
    )


def test_ratios_are_to_the_best_engine_that_is_not_ours() -> None:
    found = row(tvm_eff=outcome(2, 4, 3), a=outcome(4, 4, 4), b=outcome(6, 6, 6))
    assert found["best_peer"] == "a"
    ours = found["engines"]["tvm_eff"]
    assert ours["ratio_to_best_peer"] == 0.75
    assert (ours["ratio_p10"], ours["ratio_p90"]) == (0.55, 0.95)
    assert found["engines"]["b"]["ratio_to_best_peer"] == 1.5
    assert found["engines"]["a"]["fraction_of_peak"] == 0.5  # 2 MFLOP in 4 ms of 1 GFLOP/s


def test_a_failure_is_in_the_report_with_its_reason(tmp_path: Path) -> None:
    failed = Outcome(failure="not installed: No module named 'ncnn'")
    rows = [row(tvm_eff=outcome(2), a=outcome(4), ncnn=failed), row(ncnn=failed)]
    result = {"machine": "m", "cores": 2, "date": "2026-01-01", "rounds": 1, "rows": rows}
    text = report.markdown(result)
    assert "| net (!) | 2.00 (0.50) | **4.00 (1.00)** | failed |" in text
    assert "| ncnn | not installed: No module named 'ncnn' |" in text
    report.plot(result, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 1000

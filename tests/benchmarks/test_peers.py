"""Engines of a benchmark take turns: who is timed, who is not and why, and what is reported."""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from result_files import result_of

import arm  # isort: skip
import footprint  # isort: skip
import peers  # isort: skip
import results_file  # isort: skip
from engines import quiet, report, workload
from engines.base import Engine, Job
from engines.compiled import Compiled
from engines.peers_python import add_peers_python
from engines.process import EngineProcess
from engines.quiet import Limits, Quietness
from engines.results import Row, row_of
from engines.turns import Comparison, Options, Outcome, compare

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
    return Options(2, 0.001, timeout, Path(sys.executable), folder, watch_s=0.01)


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
    assert used["peak_mb"] >= used["memory_mb"] > 1


def test_an_engine_with_other_threads_than_it_was_told_is_marked() -> None:
    used = {"cores": 1.9, "threads": 4.0, "memory_mb": 100.0, "peak_mb": 150.0}
    grown = {"cores": 1.9, "threads": 4.0, "memory_mb": 160.0, "peak_mb": 190.0}
    found = row(tvm_eff=outcome(2, 2), a=replace(outcome(4, 4), usage=(used, grown)))
    text = report.markdown(result_of({"rounds": 1, "rows": [found]}))
    assert "| 1.90 | 4 of 2 (!) | 160 (+60, 190) |" in text
    assert found["engines"]["a"]["threads_used"] == 4


def outcome(*milliseconds: float) -> Outcome:
    return Outcome(error=1e-7, rounds=tuple((each / 1e3,) * 3 for each in milliseconds))


def row(*disturbances: str, **outcomes: Outcome) -> Row:
    quietness = Quietness(load_average=1.5, before=0.01, during=0.2, spread=0.03)
    comparison = Comparison(outcomes, quietness, disturbances, attempts=3)
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
    result = result_of({"rounds": 1, "rows": rows})
    text = report.markdown(result)
    assert "| net | 2.00 (0.50) | **4.00 (1.00)** | failed |" in text
    assert "| ncnn | not installed: No module named 'ncnn' |" in text
    assert result.provenance in text
    report.plot(result, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 1000


def test_a_row_of_a_machine_that_was_never_quiet_is_marked_with_the_reason() -> None:
    why = "other programs took 20% of the cores"
    found = row(why, tvm_eff=outcome(2), a=outcome(4))
    assert found["disturbed"] and found["disturbances"] == [why] and found["attempts"] == 3
    assert found["quietness"]["during"] == 0.2
    text = report.markdown(result_of({"rounds": 1, "rows": [found]}))
    assert "| net (!) | 2.00 (0.50) | **4.00 (1.00)** |" in text
    assert f"(!) Not quiet in 3 attempts, of which this is the quietest: {why}." in text
    assert not row(tvm_eff=outcome(2))["disturbed"]


def repeated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *shares: float, attempts: int = 3
) -> Comparison:
    """Compare two engines while others take these shares of the cores, attempt by attempt."""
    told = itertools.chain(shares, itertools.repeat(shares[-1]))
    monkeypatch.setattr(quiet, "others_during", lambda seconds: 0.0)
    monkeypatch.setattr(quiet, "others", lambda before, after: next(told))
    jobs = {
        Engine(name, f"fake_engine_{name}", ("numpy",), ours=True): job(folder, "right")
        for name in ("a", "b")
    }
    limits = Limits(spread=1e9)
    chosen = replace(options(folder), attempts=attempts, limits=limits)
    return compare(jobs, 2 * X, chosen, ignore)


def test_a_disturbed_row_is_timed_again_until_the_machine_is_quiet(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = repeated(folder, monkeypatch, 0.4, 0.01, 0.4)
    assert (found.attempts, found.disturbances, found.quietness.during) == (2, (), 0.01)
    for each in found.outcomes.values():
        assert len(each.rounds) == len(each.usage) == 2, "the rounds of one attempt alone"


def test_of_attempts_that_were_all_disturbed_the_quietest_counts_and_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = repeated(folder, monkeypatch, 0.4, 0.2, 0.3)
    assert (found.attempts, found.quietness.during) == (3, 0.2)
    assert found.disturbances == ("other programs took 20% of the cores",)


def test_an_engine_that_fails_in_one_attempt_is_out_of_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "others_during", lambda seconds: 0.5)
    jobs = {
        Engine(name, f"fake_engine_{i}", ("numpy",), ours=True): job(folder, name)
        for i, name in enumerate(("dies later", "right"))
    }
    chosen = replace(options(folder), rounds=4, attempts=3)
    found = compare(jobs, 2 * X, chosen, ignore)
    assert "no room" in str(found.outcomes["dies later"].failure)
    assert found.outcomes["right"].failure is None and len(found.outcomes["right"].rounds) == 4
    assert found.disturbances[0] == "before it other programs took 50% of the cores"


def test_rounds_that_disagree_are_timed_again(folder: Path) -> None:
    engine = Engine("settles", "fake_engine_settles", ("numpy",), ours=True)
    limits = Limits(before=1e9, during=1e9, spread=0.5)
    chosen = replace(options(folder), rounds=6, attempts=4, limits=limits)
    heard: list[str] = []
    found = compare({engine: job(folder, "settles")}, 2 * X, chosen, heard.append)
    assert found.attempts > 1 and found.disturbances == ()
    assert any("rounds of half of the engines differ" in each for each in heard)


def test_rounds_are_judged_by_the_engine_in_the_middle() -> None:
    steady, uneven = [(1.0, 1.0)] * 5, [(1.0,), (), (2.0, 2.0), (1.0,), (2.0,), (1.0,)]
    assert quiet.spread({"a": steady, "b": steady, "c": uneven}) == 0
    assert quiet.spread({"a": uneven, "b": steady, "c": uneven}) == pytest.approx(1.0)
    assert quiet.spread({"a": [(1.0,), ()]}) == 0, "one round disagrees with none"
    assert quiet.spread({}) == 0


@pytest.fixture
def stranger() -> Iterator[int]:
    """Yield a process that takes a core, and that is no child of this one."""
    program = "import os\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\nwhile 1: pass"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        found = int(parent.stdout.readline())
        try:
            yield found
        finally:
            os.kill(found, signal.SIGKILL)


def test_what_others_take_is_seen(stranger: int) -> None:
    assert quiet.others_during(1.0) > 0.5 / (os.cpu_count() or 1)


def test_what_was_started_here_is_not_others_even_when_it_has_ended() -> None:
    program = (
        "import sys, time\n"
        "while time.process_time() < 0.5: pass\n"
        "print('worked', flush=True)\n"
        "sys.stdin.read()"
    )
    # The system counts in ticks of a hundredth of a second, and rounds down.
    took = 0.45
    before = quiet.own_seconds()
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None and child.stdout.readline() == b"worked\n"
    assert quiet.own_seconds() - before > took
    child.communicate()
    assert quiet.own_seconds() - before > took


def test_a_command_line_that_asks_for_too_much_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert peers.main(["--threads", "4096", "--output", str(output)]) == 2
    assert "--threads 4096" in capsys.readouterr().err
    assert peers.main(["--models", "squeezenet9", "--output", str(output)]) == 2
    assert "squeezenet9" in capsys.readouterr().err
    assert not output.exists()


def test_a_run_replaces_the_rows_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result_of({"rounds": 9, "rows": [row(a=outcome(7))]}).write(tmp_path / "peers.json")
    made = workload.Workload("flattened_cifar", X.shape, 10**6, X, tmp_path)
    monkeypatch.setattr(peers, "prepare", lambda *_: made)
    monkeypatch.setattr(peers, "Peak", lambda: SimpleNamespace(measure=lambda cores: 1e9))
    monkeypatch.setattr(peers, "_run", lambda *_: comparison_of(a=outcome(2)))
    arguments = ["--models", "flattened_cifar", "--batch", "1", "--threads", "1", "--rounds", "3"]
    assert peers.main([*arguments, "--engines", "torch eager", "--output", str(tmp_path)]) == 0
    written = results_file.read(tmp_path / "peers.json")
    assert [each["model"] for each in written.data["rows"]] == ["flattened_cifar"]
    assert written.data["rounds"] == 3
    assert str(written.command).startswith("python benchmarks/peers.py --models flattened_cifar")
    assert str(tmp_path.parent) not in str(written.command)
    assert "flattened_cifar | **2.00 (1.00)**" in capsys.readouterr().out


def comparison_of(**outcomes: Outcome) -> Comparison:
    return Comparison(outcomes, Quietness(0.0, 0.0, 0.0, 0.0))


def test_a_network_that_cannot_be_compiled_is_a_failure_of_our_library_alone(
    tmp_path: Path,
) -> None:
    made = workload.Workload("squeezenet9", (1, 3, 2, 2), 1, X, tmp_path)
    found = workload.tune(made, tmp_path / "logs", (0,), workload.TuneOptions(trials=1))
    assert found.bundle is None and "squeezenet9" in str(found.failure)


@pytest.mark.parametrize("measure", [True, False])
def test_a_library_by_priors_is_no_figure_unless_it_was_asked_for(
    measure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is if the time for measuring them again is over."""
    made = workload.Workload("flattened_cifar", X.shape, 10**6, X, tmp_path)
    told = Compiled(tmp_path, "here", "seconds", 1.0, 2.0, 0.0, candidates=3, seconds=9.0, priors=2)
    monkeypatch.setattr(workload, "compile_apart", lambda *_, **options: told)
    found = workload.tune(made, None, (0,), workload.TuneOptions(measure=measure))
    assert (found.bundle is None) == measure
    assert ("2 of its kernels still have priors" in str(found.failure)) == measure


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engines", "tvm_eff", "ncnn"], "--engines ncnn: it cannot be asked for int8"),
        (["--batch", "8"], "int8 is compared for --batch 1 alone"),
    ],
)
def test_what_is_not_compared_in_int8(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--dtype", "int8", "--models", "squeezenet", *words]
    assert peers.main([*given, "--peers-python", sys.executable]) == 2
    assert message in capsys.readouterr().err


def test_the_python_of_peers_is_the_same_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_peers_python(parser)
    assert parser.parse_args(["--peers-python", "./python"]).peers_python == tmp_path / "python"
    for script in (peers, arm, footprint):
        assert script.main(["--peers-python", "missing/python"]) == 2
        assert "missing/python: there is no such file" in capsys.readouterr().err


def test_our_float32_is_no_peer_of_our_int8() -> None:
    found = row(**{"tvm_eff": outcome(2, 2), "tvm_eff, float32": outcome(1, 1), "a": outcome(4, 4)})
    assert found["best_peer"] == "a"
    assert found["engines"]["tvm_eff"]["ratio_to_best_peer"] == 0.5

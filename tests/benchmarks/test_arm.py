"""Engines on the emulated board: what is counted, what is not and why."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from result_files import result_of

from tvm_eff.codegen import toolchain
from tvm_eff.device import emulator_image
from tvm_eff.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import arm  # noqa: E402
from engines.arm_board import ARCH, CPUS, REQUIREMENTS, Board, board  # noqa: E402
from engines.arm_count import TOLERANCES, Counted, Options, count_peer  # noqa: E402
from engines.arm_mix import Mix, MixCounter  # noqa: E402
from engines.arm_report import markdown, row_of  # noqa: E402
from engines.base import ENGINES, UNABLE, Engine, Job  # noqa: E402

X = np.linspace(-1, 1, 12, dtype="float32").reshape(1, 3, 2, 2)
HERE = Path(__file__).parent


def test_wheels_that_cannot_be_fetched_are_told(tmp_path: Path, emulator: None) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("numpy==0.0.0.1\n")
    with pytest.raises(SetupError, match=r"(?s)wheels of requirements\.txt.*numpy==0\.0\.0\.1"):
        board(Path(sys.executable), CPUS[0], requirements)


def test_wheels_are_of_the_versions_that_convert_the_models() -> None:
    converters = (ROOT / "benchmarks" / "requirements.txt").read_text().splitlines()
    wheels = [each for each in REQUIREMENTS.read_text().splitlines() if not each.startswith("#")]
    assert set(wheels) <= set(converters)


@pytest.fixture(scope="module", params=CPUS)
def python_board(
    request: pytest.FixtureRequest, emulator: None, tmp_path_factory: pytest.TempPathFactory
) -> Board:
    """Return a board whose Python has numpy and our fake engines."""
    requirements = tmp_path_factory.mktemp("board") / "requirements.txt"
    requirements.write_text("numpy==2.4.6\n")
    try:
        made = board(Path(sys.executable), request.param, requirements)
    except SetupError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    return replace(made, packages=(*made.packages, HERE))


def count(
    python_board: Board,
    folder: Path,
    behaviour: str,
    monkeypatch: pytest.MonkeyPatch,
    module: str = "fake_engine",
) -> Counted:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    folder.mkdir(exist_ok=True)
    np.save(folder / "input.npy", X)
    job = Job(module, ("numpy",), behaviour, X.shape, folder, None, (min(os.sched_getaffinity(0)),))
    engine = Engine(behaviour, module, ("numpy",))
    options = Options(120, Path(sys.executable), folder)
    return count_peer(engine, job, 2 * X, python_board, options)


def test_an_engine_that_is_wrong_is_not_counted(
    python_board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = count(python_board, tmp_path, "wrong", monkeypatch)
    assert found.failure is not None and "wrong result" in found.failure
    assert found.error == pytest.approx(2e-4, rel=0.01)
    assert found.mix is None


def test_an_engine_that_dies_or_is_missing_says_why(
    python_board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "SIGABRT" in str(count(python_board, tmp_path / "a", "dies", monkeypatch).failure)
    missing = count(python_board, tmp_path / "b", "right", monkeypatch, "no_such_engine")
    assert missing.failure == "not installed: No module named 'no_such_engine'"


def test_an_inference_is_counted_without_the_start(
    python_board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = count(python_board, tmp_path, "right", monkeypatch)
    assert found.failure is None and found.error == 0
    assert found.mix is not None
    # A product of twelve numbers and a line of text; importing numpy takes a thousand times that.
    assert 1_000 < found.mix.instructions < 200_000
    assert found.mix.loads + found.mix.stores < found.mix.instructions


def test_the_board_says_what_it_is_and_sees_none_of_our_variables(
    python_board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "1")
    program = (
        "import json, os, platform; "
        "print(json.dumps([platform.machine(), open('/proc/cpuinfo').read(), sorted(os.environ)]))"
    )
    command: list[str | Path] = [python_board.python(tmp_path, None), "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    machine, processor, variables = json.loads(done.stdout)
    assert machine == "aarch64"
    part, can_dot = {"cortex-a72": ("0xd08", False), "cortex-a76": ("0xd0b", True)}[
        python_board.cpu
    ]
    assert processor.count(part) == 4
    assert ("asimddp" in processor) == can_dot
    assert set(variables) <= {"HOME", "PATH", "PYTHONPATH", "OMP_NUM_THREADS", "PWD", "LC_CTYPE"}


def test_kinds_of_instructions_are_told_apart(emulator: None, tmp_path: Path) -> None:
    program = tmp_path / "mix"
    flags = ["-O1", "-target", "aarch64-linux-gnu.2.31", "-mcpu=cortex_a76"]
    toolchain.run(["cc", *flags, HERE / "mix.c", "-o", program])

    def executed(runs: int) -> Mix:
        with closing(MixCounter(tmp_path / "counter")) as counter:
            options = ["-cpu", "cortex-a76", "-plugin", counter.plugin_option()]
            emulator_command = emulator_image.emulator_command(ARCH)
            subprocess.run([*emulator_command, *options, program, str(runs)], check=True)
            return counter.mix_at_rest()

    mix = executed(30_000) - executed(20_000)
    assert (mix.fmas, mix.loads, mix.stores) == (150_000, 50_000, 30_000)
    assert 30 * 10_000 < mix.instructions <= 33 * 10_000


def counted(instructions: int) -> Counted:
    return Counted(versions={"a": "1"}, error=1e-7, mix=Mix(instructions, 10**6, 500_000, 10))


def test_ratios_are_to_the_best_engine_that_is_not_ours() -> None:
    found = {"tvm_eff": counted(2 * 10**6), "a": counted(4 * 10**6), "b": counted(6 * 10**6)}
    row = row_of(found, model="net", macs=4 * 10**6)
    assert row["best_peer"] == "a"
    assert row["engines"]["tvm_eff"]["ratio_to_best_peer"] == 0.5
    assert row["engines"]["b"]["ratio_to_best_peer"] == 1.5


def test_a_failure_is_in_the_report_with_its_reason() -> None:
    row = row_of({"tvm_eff": counted(2 * 10**6), "b": Counted("it | died")}, model="net", macs=1)
    text = markdown(result_of({"where": "here", "dtype": "int8", "rows": [row]}))
    assert "| net | tvm_eff | 2.0 | 1.0 | 0.5 | 0.0 | 2.00 | 1.0e-07 |" in text
    assert "| net | b | it / died |" in text


def test_a_processor_without_arithmetic_in_float16_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert arm.main(["--dtype", "float16", "--target", "rasp4"]) == 2
    assert "without arithmetic in float16" in capsys.readouterr().err


def test_an_engine_without_a_dtype_has_its_reason() -> None:
    for engine in (each for each in ENGINES if each.name in arm.NAMES):
        for dtype in TOLERANCES.keys() - set(engine.dtypes) - {"float32"}:
            assert UNABLE[engine.name, dtype]


def test_bytes_have_a_sign_where_their_dot_products_do() -> None:
    assert [arm.activations(target) for target in arm.TARGETS] == ["uint8", "int8"]


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_who_is_told_to_end_leaves_no_process(
    how: str, emulator: None, tmp_path: Path, temporary: Path
) -> None:
    words = ["--engines", "tvm_eff", "--models", "flattened_cifar", "--trials", "2"]
    folders = ["--logs", str(tmp_path / "logs"), "--output", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "benchmarks" / "arm.py"), *words, *folders],
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    started = _with_emulator(process)
    process.send_signal(getattr(signal, how))
    _, told = process.communicate(timeout=20)
    # A server of builders that is alone ends once it has imported TVM.
    _, left = psutil.wait_procs(started, timeout=20 if how == "SIGTERM" else 90)
    assert left == []
    if how == "SIGTERM":
        assert process.returncode == 128 + signal.SIGTERM
        assert told.endswith("interrupted; run the same command again to go on\n")
        assert "Traceback" not in told
        assert list(temporary.glob("arm-*")) == []


def _with_emulator(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return all that a process has started, once kernels run in the emulator."""
    while process.poll() is None:
        started = psutil.Process(process.pid).children(recursive=True)
        with suppress(psutil.NoSuchProcess):
            if any("qemu" in " ".join(each.cmdline()) for each in started):
                return started
        time.sleep(0.2)
    raise AssertionError("it ended by itself")


def test_every_dtype_has_its_tolerance() -> None:
    assert TOLERANCES.keys() == {"float32", "float16", "int8"}

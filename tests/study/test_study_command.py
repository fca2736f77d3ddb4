"""``study``: interrupted, resumed, run again, on a board; and what it says to wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study import command
from tvm_eff import targets
from tvm_eff.device import LocalDevice
from tvm_eff.models import Program
from tvm_eff.tensors import TOLERANCE
from tvm_eff.tune.tie_break import ROUNDS

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "study"]
FILES = ["study.json", "study.md", "study.png"]
TINY = ["--families", "mobilenet", "--sizes", "16,16,8", "--trials", "2", "--logs", "logs"]
HOST = ["--target", "host", *TINY, "--rounds", "3", "--output", "out"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def message_of(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Run the command, which must fail as a user's mistake; return the message alone."""
    try:
        code = command.main(arguments)
    except SystemExit as left:  # argparse leaves so
        assert isinstance(left.code, int)
        code = left.code
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    message: str = err.partition("error: ")[2]
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "--target"),
        (["--target", "raps4"], "unknown target 'raps4'; did you mean"),
        (["--target", "absent.toml"], "absent.toml"),
        (["--target", "host", "--families", "mobilnet"], "'mobilnet'; did you mean 'mobilenet'"),
        (["--target", "host", "--families", "resnet"], "unknown family 'resnet'"),
        (["--target", "host", "--sizes", "64,64"], "'64,64' is not a shape; write IN,OUT,SIZE"),
        (["--target", "host", "--sizes", "64,64,0"], "'64,64,0' is not a shape"),
        (["--target", "host", "--sizes", "64,64,8,3,1,1"], "is not a shape"),
        (["--target", "host", "--sizes", "big"], "'big' is not a shape"),
        (["--target", "host", "--sizes", "8,8,8,4"], "has the shape 8-8 4x4 @8"),
        (["--target", "host", "--sizes", "8,8,8", "--quick"], "not allowed with"),
        (["--target", "host", "--trials", "0"], "--trials: '0'"),
        (["--target", "host", "--rounds", "-1"], "--rounds: '-1'"),
        (["--target", "rasp4", "--rpc", "board"], "'board' is not an address"),
        (["--target", "rasp4", "--rpc", "board:http"], "'http' in 'board:http' is not a port"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_value(
    arguments: list[str], wanted: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert wanted in message_of(arguments, capfd)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("option", ["--output", "--logs"])
def test_folder_that_cannot_be_written(
    option: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "in_the_way").write_text("a file")
    message = message_of([*HOST, option, "in_the_way/deeper"], capfd)
    assert "in_the_way" in message and option in message
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "in_the_way"]


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "study", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.stdout.startswith("usage: python -m study")
    assert "tvm_eff" in imported
    assert imported.isdisjoint({"tvm", "torch", "numpy", "rich", "matplotlib"})


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """What is on record but for what was measured side by side; the last line may be on its way."""
    text = "".join(path.read_text() for path in folder.glob("logs/*/*/measurements.jsonl"))
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    measured = [each for each in map(json.loads, whole) if each["kind"] == "measurement"]
    return [each for each in measured if len(each["values"]) < ROUNDS]


def measured_once(folder: Path) -> bool:
    counts = Counter((each["workload"], str(each["candidate"])) for each in lines_of(folder))
    return set(counts.values()) == {1}


def test_wrong_library_is_not_timed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    timed = libraries_timed(monkeypatch)
    # One value of PyTorch's is moved a little, which is as good as a library's moved.
    right = Program.run

    def run(self: Program, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        (output,) = right(self, inputs)
        output.flat[7] += 1e-4 * np.ptp(output)
        return [output]

    monkeypatch.setattr(Program, "run", run)
    # In double precision it would be seen that PyTorch is the one that is off.
    monkeypatch.setattr(Program, "run_in_double_precision", lambda *_: None)
    assert command.main([*HOST, "--trials", "1"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and "Traceback" not in err
    assert "the standard layer of depthwise separable, 16-16 3x3 @8 is not compiled rightly" in err
    assert "its largest error is 1.0e-04" in err
    assert timed == [] and list((folder / "out").iterdir()) == []


def libraries_timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will hold the whole libraries timed on this machine, in order."""
    timed: list[str] = []
    plain = LocalDevice.run

    def run(
        self: LocalDevice, library: Path, *arguments: Any, measure: Any = None, **options: Any
    ) -> Any:
        if measure is not None:
            timed.append(library.stem)
        return plain(self, library, *arguments, measure=measure, **options)

    monkeypatch.setattr(LocalDevice, "run", run)
    return timed


def test_host_interrupted_and_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    process = subprocess.Popen(
        [*COMMAND, *HOST],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 120
        while not lines_of(folder) and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted; run the same command again to go on" in err
    assert list((folder / "out").iterdir()) == []
    before = len(lines_of(folder))

    assert command.main([*HOST, "--json"]) == 0
    out, err = capfd.readouterr()
    assert before > 0 and f"{before} of them on record" in err
    assert measured_once(folder)
    assert sorted(path.name for path in (folder / "out").iterdir()) == FILES
    found = json.loads(out)
    assert found == json.loads((folder / "out" / "study.json").read_text())
    check_host(found, candidates=len(lines_of(folder)))

    # What was tuned stays so, and is measured again in turns.
    timed = libraries_timed(monkeypatch)
    assert command.main(HOST) == 0
    assert timed == ["standard", "factorized"] * 3
    out, err = capfd.readouterr()
    assert "0 to measure" in err
    assert len(lines_of(folder)) == found["candidates"]
    assert "speed-up" in out and "depthwise separable" in out


def check_host(found: dict[str, Any], candidates: int) -> None:
    assert (found["target"], found["unit"]) == ("host", "seconds")
    assert found["where"].startswith("this machine")
    # Depthwise and pointwise, in one kernel where caches are private, and standard, each as
    # imported and in two schedules.
    factorized = 1 if targets.load("host").private_caches else 2
    assert (found["kernels"], found["candidates"]) == (1 + factorized, candidates)
    assert candidates == 3 * (1 + factorized)
    assert {"tvm_eff", "tvm", "torch", "python"} <= found["versions"].keys()
    (pair,) = found["pairs"]
    # 16 x 16 x 9 against 16 x 9 + 16 x 16, at 8 x 8 places.
    assert (pair["standard"]["macs"], pair["factorized"]["macs"]) == (2304 * 64, 400 * 64)
    assert pair["theoretical_ratio"] == 5.76
    assert pair["formula"] | {"departures": []} == {
        "text": "1/N + 1/(Kx Ky)",
        "source": "arXiv:1704.04861, section 3.1",
        "ratio": "25/144",
        "departures": [],
        "agrees_with_count": True,
    }
    assert len(pair["measured_speed_up_rounds"]) == 3
    for layer, kernels in (("standard", 1), ("factorized", factorized)):
        # Without a difference, where PyTorch happens to add in the same order.
        assert 0 <= pair[layer]["largest_error"] <= TOLERANCE
        assert len(pair[layer]["kernels"]) == kernels
        assert all(1e-7 < turn < 1 for turn in pair[layer]["turns"])
    rounds = [
        slow / fast
        for slow, fast in zip(pair["standard"]["turns"], pair["factorized"]["turns"], strict=True)
    ]
    assert pair["measured_speed_up_rounds"] == pytest.approx(rounds)
    assert pair["measured_speed_up"] == sorted(pair["measured_speed_up_rounds"])[1]
    assert pair["fraction_delivered"] == pytest.approx(pair["measured_speed_up"] / 5.76)


def test_rasp4_counts_instructions(
    emulator: None, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--target", "rasp4", *TINY]) == 0
    out, _ = capfd.readouterr()
    written = folder / "dist" / "study-rasp4"
    assert sorted(path.name for path in written.iterdir()) == FILES
    found = json.loads((written / "study.json").read_text())
    (pair,) = found["pairs"]
    assert (found["unit"], found["load_average"]) == ("instructions", None)
    assert found["where"].startswith("emulated cortex-a72")
    assert "instruction ratio" in out and "no latency" in out
    # A multiply-add instruction of a Cortex-A72 does four at most.
    for layer in ("standard", "factorized"):
        (turn,) = pair[layer]["turns"]
        assert pair[layer]["macs"] / 4 < turn < 100 * pair[layer]["macs"]
    assert 1 < pair["instruction_ratio"] < 5.76
    assert pair["fraction_delivered"] == pytest.approx(pair["instruction_ratio"] / 5.76)

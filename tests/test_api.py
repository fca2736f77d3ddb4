"""``scripts/tune.py`` from end to end, as a user runs it: killed, resumed, run again."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import tvm_eff
from tvm_eff import models
from tvm_eff.deploy import bundle
from tvm_eff.errors import BundleError
from tvm_eff.tensors import TOLERANCE, relative_error
from tvm_eff.tune.tie_break import ROUNDS

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "tune.py"
MODEL = "squeezenet1_1"


@dataclass(frozen=True)
class Command:
    """The command for one target, always in the same folder."""

    target: str
    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "dist" / f"{MODEL}-{self.target}"

    def lines(self) -> list[dict[str, Any]]:
        """Return the measurements on record, but for those side by side."""
        found = list((self.folder / "logs").glob("*/*/measurements.jsonl"))
        text = found[0].read_text() if found else ""
        # While the command runs, the last line may be on its way.
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        measured = [each for each in map(json.loads, whole) if each["kind"] == "measurement"]
        return [each for each in measured if len(each["values"]) < ROUNDS]

    def start(self) -> subprocess.Popen[str]:
        """Start it in a session of its own, as in a terminal of its own."""
        arguments = ["--target", self.target, "--model", MODEL, "--trials", "1", "--logs", "logs"]
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments, "--json"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> tuple[dict[str, Any], str]:
        """Run it to the end; return what came out and what was shown on the way."""
        process = self.start()
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        return json.loads(out.splitlines()[-1]), err

    def cut_short(self, how: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str]:
        """Start it, end it some measurements later, and see that nothing of it is left."""
        before = len(self.lines())
        process = self.start()
        try:
            wait_until(lambda: len(self.lines()) >= before + 4 or process.poll() is not None, 300)
            family = psutil.Process(process.pid).children(recursive=True)
            assert len(family) > 2, "builders and a device run"
            how(process)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
        _, left = psutil.wait_procs(family, timeout=20)
        assert left == []
        return process.returncode, err


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {seconds} s"
        time.sleep(0.05)


def ctrl_c(process: subprocess.Popen[str]) -> None:
    """Interrupt every process of the terminal, as the key does."""
    os.killpg(process.pid, signal.SIGINT)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()


def measured_once(command: Command) -> bool:
    counts = Counter((each["workload"], str(each["candidate"])) for each in command.lines())
    return set(counts.values()) == {1}


def pytorchs_output(x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return models.create(MODEL)(torch.from_numpy(x)).numpy()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> tuple[Command, dict[str, Any]]:
    """The command for this machine: interrupted, killed, and run to the end."""
    command = Command("host", tmp_path_factory.mktemp("host"))

    code, shown = command.cut_short(ctrl_c)
    assert code == 130
    assert "interrupted; run the same command again to go on" in shown
    assert "Traceback" not in shown
    assert not command.bundle.exists()
    assert measured_once(command)

    code, _ = command.cut_short(kill)
    assert code == -signal.SIGKILL
    assert not command.bundle.exists()

    before = len(command.lines())
    result, shown = command.finish()
    assert before >= 8
    assert f"{before} of them on record" in shown
    assert result["candidates"] == len(command.lines()) - before
    return command, result


def test_nothing_was_measured_twice(host: tuple[Command, dict[str, Any]]) -> None:
    command, _ = host
    assert measured_once(command)
    assert [each for each in command.lines() if "failure" in each] == []
    assert {each["unit"] for each in command.lines()} == {"seconds"}


def test_second_run_measures_nothing(host: tuple[Command, dict[str, Any]]) -> None:
    command, first = host
    logs = {path: path.read_bytes() for path in (command.folder / "logs").rglob("*.json*")}
    second, shown = command.finish()
    assert second["candidates"] == 0
    assert "0 to measure" in shown
    assert second["largest_error"] == first["largest_error"]
    assert {p: p.read_bytes() for p in (command.folder / "logs").rglob("*.json*")} == logs


def test_tuning_pays(host: tuple[Command, dict[str, Any]]) -> None:
    # Untuned, it is a hundred times slower: no noise hides that.
    _, result = host
    assert result["latency_ms"] * 5 < result["kernels_before"]


def test_bundle_agrees_with_pytorch(host: tuple[Command, dict[str, Any]]) -> None:
    command, result = host
    written = bundle.read(command.bundle)
    golden = written.golden()
    (x,), (wanted,) = golden.inputs.values(), golden.outputs.values()
    np.testing.assert_array_equal(wanted, pytorchs_output(x))
    assert written.manifest.validation.largest_error == result["largest_error"] <= TOLERANCE
    another = np.random.default_rng(99).standard_normal(x.shape).astype("float32")
    output = tvm_eff.load(command.bundle)(another)
    assert isinstance(output, np.ndarray)
    assert relative_error(output, pytorchs_output(another)) < 1e-5


def test_bundle_loads_without_torch_and_the_tuner(host: tuple[Command, dict[str, Any]]) -> None:
    command, _ = host
    code = (
        "import sys, tvm_eff, numpy as np\n"
        f"model = tvm_eff.load({str(command.bundle)!r})\n"
        "model.check()\n"
        "x = np.zeros((1, 3, 224, 224), 'float32')\n"
        "np.save('zeros.npy', model(x))\n"
        "heavy = [m for m in sys.modules if m == 'torch' or m.startswith('tvm_eff.tune')]\n"
        "assert heavy == [], heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent)}
    subprocess.run([sys.executable, "-c", code], cwd=command.folder, env=environment, check=True)
    zeros = pytorchs_output(np.zeros((1, 3, 224, 224), "float32"))
    assert relative_error(np.load(command.folder / "zeros.npy"), zeros) <= TOLERANCE


def test_rasp4_on_the_emulated_board(emulator: None, tmp_path: Path) -> None:
    command = Command("rasp4", tmp_path)
    result, _ = command.finish()
    assert measured_once(command)
    assert {each["unit"] for each in command.lines()} == {"instructions"}
    assert len({each["machine"] for each in command.lines()}) == 1
    assert [each for each in command.lines() if "failure" in each] == []
    assert result["candidates"] == len(command.lines())
    assert result["largest_error"] <= TOLERANCE
    assert result["where"].startswith("emulated cortex-a72")
    assert result["instructions"] < 160e6 < 800e6 < result["kernels_before"]

    written = bundle.read(command.bundle)
    assert written.manifest.target.name == "rasp4"
    assert written.measurement is not None
    assert written.measurement.unit == "instructions"
    golden = written.golden()
    np.testing.assert_array_equal(
        next(iter(golden.outputs.values())), pytorchs_output(next(iter(golden.inputs.values())))
    )
    if platform.machine() != "aarch64":
        with pytest.raises(BundleError, match="made for rasp4"):
            tvm_eff.load(command.bundle)

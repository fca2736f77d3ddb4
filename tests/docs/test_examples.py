"""The examples of the how-to pages do what the pages say, for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import tvm
from example_runs import EXAMPLES, example
from kernels import HOST, small_convolution, tasks_of
from torch import nn

import tvm_eff
from tvm_eff import frontend, models, passes, schedules, targets
from tvm_eff.codegen import build_kernel
from tvm_eff.deploy.library import build_library
from tvm_eff.device import LocalDevice
from tvm_eff.errors import SetupError
from tvm_eff.models import registry as zoo
from tvm_eff.passes import pipeline
from tvm_eff.schedules import registry
from tvm_eff.tensors import TOLERANCE, random_inputs, relative_error
from tvm_eff.tune import worker
from tvm_eff.tune.checker import TOLERANCE as KERNEL_TOLERANCE


def test_board(tmp_path: Path) -> None:
    board = targets.load(EXAMPLES / "jetson-nano.toml")
    assert board.tvm_target().attrs["mcpu"] == "cortex-a57"
    model = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU())
    (task, *_) = tasks_of(model, (1, 8, 14, 14), target=board)
    first = schedules.candidates(task.func, board)[0]
    library = tmp_path / "kernel.so"
    build_kernel(schedules.apply(task.func, first, board), board, library)
    # An ELF file for the machine 183, AArch64.
    header = library.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == 183


def test_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = example("all_cnn").SPEC
    assert spec.name not in models.names()
    monkeypatch.setitem(zoo.MODELS, spec.name, spec)
    assert spec.name in models.names()
    # The paper says about 1.4 million for CIFAR-10.
    assert models.account(models.outline("all_cnn")).parameters == 1_369_738
    bundle = tvm_eff.compile(
        "all_cnn", target="host", resolution=20, measure=False, logs=tmp_path, output=tmp_path
    )
    assert bundle.manifest.model == "all_cnn_20"
    assert bundle.check() <= TOLERANCE


def test_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = example("row_softmax").RowSoftmax()
    task = max(tasks_of(nn.Softmax(-1), (3, 4, 40)), key=lambda each: each.operations)
    monkeypatch.setattr(registry, "RULES", (rule, *registry.RULES))
    found = [c for c in schedules.candidates(task.func, HOST) if c.rule == rule.name]
    assert [str(each) for each in found] == ["row_softmax(unroll=4)", "row_softmax(unroll=1)"]
    expected = worker.reference(tvm.ir.save_json(task.module), task.inputs, task.outputs)
    with LocalDevice() as device:
        for number, candidate in enumerate(found):
            library = tmp_path / f"{number}.so"
            build_kernel(schedules.apply(task.func, candidate, HOST), HOST, library)
            outputs, _ = device.call(library, "main", random_inputs(task.inputs), task.outputs)
            assert relative_error(outputs[0], expected[0]) <= KERNEL_TOLERANCE


def test_schedule_matches_nothing_else() -> None:
    rule = example("row_softmax").RowSoftmax()
    assert rule.candidates(small_convolution().func, HOST) == []


class Repeats(nn.Module):
    """Three activations behind a convolution, as careless code has them."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.relu(torch.relu(self.convolution(x))))


def test_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idempotent_relu = example("idempotent_relu").idempotent_relu
    model, x = Repeats().eval(), torch.randn(1, 3, 9, 9)
    imported = frontend.import_model(model, [x])
    before = pipeline.canonicalize
    ran = []

    def canonicalize() -> list[Any]:
        @tvm.ir.transform.module_pass(opt_level=0)
        def count(mod: tvm.IRModule, _: object) -> tvm.IRModule:
            ran.append(mod["main"].script().count("R.nn.relu"))
            return mod

        return [*before(), count, idempotent_relu, count]

    monkeypatch.setattr(pipeline, "canonicalize", canonicalize)
    network = passes.lower(imported, HOST)
    assert ran == [3, 1]
    library = tmp_path / "model.so"
    build_library(network, None, HOST, library)
    with LocalDevice() as device:
        outputs, _ = device.run(library, [x.numpy()])
    with torch.no_grad():
        assert relative_error(outputs[0], model(x).numpy()) <= TOLERANCE


def test_script_of_the_first_five_minutes(tmp_path: Path) -> None:
    printed = run_script_of("first-five-minutes.md", 'name="tiny"', tmp_path)
    assert "outputs correct" in printed
    assert (tmp_path / "dist" / "tiny-host" / "model.so").is_file()


def test_script_of_a_network_with_state(tmp_path: Path) -> None:
    compared = """
module = Smooth().eval()
module.mean = torch.from_numpy(state)
assert abs(module(frame).numpy() - bundle.run(frame.numpy(), state)[0]).max() < 1e-6
"""
    run_script_of("validation.md", "state=True", tmp_path, then=compared)
    assert (tmp_path / "dist" / "Smooth-host" / "model.so").is_file()


def run_script_of(name: str, options: str, folder: Path, then: str = "") -> str:
    """Run the script of a page, but not into the checkout's own records, and briefly."""
    page = (EXAMPLES.parent / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (script,) = (block for block in blocks if "tvm_eff.compile" in block)
    assert options in script
    brief = script.replace(options, f'{options}, logs="logs", trials=1')
    (folder / "script.py").write_text(brief + then, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its cores")
def test_device(tmp_path: Path) -> None:
    core = min(psutil.Process().cpu_affinity())
    device = example("pinned").PinnedDevice([core])
    with device:
        assert device.pid is not None
        assert psutil.Process(device.pid).cpu_affinity() == [core]
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
    bundle = tvm_eff.compile(
        model, torch.randn(1, 3, 9, 9), device=device, trials=1, logs=tmp_path, output=tmp_path
    )
    assert bundle.report is not None
    assert bundle.report.where.endswith(f"cores {core}")
    (measurements,) = tmp_path.glob("host-*/seconds/measurements.jsonl")
    lines = [json.loads(line) for line in measurements.read_text().splitlines()]
    (machine,) = (line for line in lines if line["kind"] == "machine")
    assert machine["name"].endswith(f", cores {core}")
    assert machine["threads"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its cores")
def test_device_without_such_a_core() -> None:
    with pytest.raises(SetupError, match="no cores 4095"), example("pinned").PinnedDevice([4095]):
        pass

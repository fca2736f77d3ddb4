"""The kernel that is wrong is named, with what it computes, why, and a script that shows it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import planted
import pytest
import torch
from networks import NETWORKS
from torch import nn

import tvm_eff
from tvm_eff import models, targets
from tvm_eff.deploy import bundle, bundle_writer
from tvm_eff.deploy.bisect import Bisection, Finding
from tvm_eff.deploy.bundle import Bundle, Golden, Validation
from tvm_eff.deploy.manifest import Runtime
from tvm_eff.errors import BundleError, DeviceError, ModelError, TargetError, UsageError
from tvm_eff.passes import pipeline
from tvm_eff.schedules import registry
from tvm_eff.targets import OpenCLRequirements

ROOT = Path(__file__).resolve().parents[2]


def bisected(made: Bundle, **options: Any) -> Bisection:
    return made.bisect(**{"model": planted.MODEL, **options})


def wrong_in(made: Bundle) -> Finding:
    found = bisected(made)
    assert not found.right
    assert found.finding is not None, found.text()
    return found.finding


def output_of(script: Path) -> str:
    """Run a script in a process of its own, which must find what is wrong."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, script], env=variables, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 1, ran.stderr
    return ran.stdout


RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)


@pytest.fixture(scope="module", params=RUNTIMES)
def right(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return planted.write(tmp_path_factory.mktemp("right") / "net", runtime=request.param)


@pytest.fixture
def with_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "RULES", (planted.SumsIntegers(), *registry.RULES))


def test_all_right(right: Bundle) -> None:
    network = models.load(planted.MODEL, input_shapes=[planted.SHAPE])
    found = bisected(right, model=network.module)
    assert found.right
    assert found.compared == found.kernels > 5
    assert "kernels are right, and so is the whole" in found.text()
    assert found.as_dict()["finding"] is None
    assert not right.folder.with_name("net-bisect").exists()
    whole = replace(found, whole="output 0 is wrong")
    assert not whole.right
    assert "is right, and the whole is not: output 0 is wrong" in whole.text()


@pytest.mark.parametrize("measure", [False, True], ids=["scheduled", "tuned"])
def test_a_reshape_that_a_schedule_makes_a_view(tmp_path: Path, measure: bool) -> None:
    torch.manual_seed(0)
    module = NETWORKS["one_dimension"].make().eval()
    made = tvm_eff.compile(
        module,
        torch.randn(2, 3, 32),
        logs=tmp_path / "logs",
        output=tmp_path,
        measure=measure,
        trials=2,
    )
    assert made.bisect(model=module).right


def test_values_near_one_another(tmp_path: Path) -> None:
    """Depths near 20 cannot be nearer than the rounding of 20, however small their spread."""

    class Depths(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.convolution = nn.Conv2d(3, 8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 20 + 0.02 * self.convolution(x)

    made = tvm_eff.compile(
        Depths().eval(),
        torch.randn(1, 3, 64, 64),
        logs=tmp_path / "logs",
        output=tmp_path,
        measure=False,
    )
    assert made.bisect(model=Depths().eval()).right


def test_with_state(tmp_path: Path) -> None:
    class Smooth(nn.Module):
        mean: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(1, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.mean = 0.9 * self.mean + 0.1 * x
            return self.mean * 2

    made = tvm_eff.compile(
        Smooth().eval(),
        torch.randn(1, 8),
        state=True,
        logs=tmp_path / "logs",
        output=tmp_path,
        measure=False,
    )
    assert made.bisect(model=Smooth().eval(), state=True).right


def test_a_wrong_schedule(tmp_path: Path, with_rule: None, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = planted.summing_integers()
    made = planted.write(tmp_path / "net", chosen=chosen)
    finding = wrong_in(made)
    assert {finding.lowered} == chosen.keys()
    assert finding.kernel.startswith(finding.lowered)
    assert (finding.schedule or "").startswith("sums_integers(rows=")
    assert "so are its weights: its schedule, or what compiles it" in finding.cause
    convolution, relu = finding.operators
    assert re.search(r"'convolution.default' in module 'squeeze' .*planted.py:\d+\)", convolution)
    assert re.search(r"'relu.default' .*planted.py:\d+\)", relu)
    assert finding.difference is not None
    assert finding.difference.relative > 0.1
    assert finding.difference.ulps > 1e5
    assert finding.difference.snr < 20
    trace = (finding.script.parent / "schedule.txt").read_text()
    assert "sums_integers(" in trace
    assert "sch.unsafe_set_dtype" in trace
    assert str(finding.difference) in output_of(finding.script)
    # Another installation may not know the rule.
    monkeypatch.undo()
    again = wrong_in(made)
    assert again.difference == finding.difference
    assert "its schedule, what compiles it, or its weights" in again.cause


@pytest.mark.parametrize("argument", [1, 2], ids=["weight", "bias"])
def test_a_corrupted_constant(right: Bundle, tmp_path: Path, argument: int) -> None:
    finding = wrong_in(planted.corrupted(right, tmp_path / "net", 4, argument))
    assert finding.number == 4
    assert finding.lowered == list(right.manifest.kernels)[4]
    assert re.search(rf"not the model's: at \[.*\] of argument {argument} it is 3 ", finding.cause)
    if argument == 1 and right.manifest.runtime == "native":
        assert f"of argument {argument} it is 3 instead of" in output_of(finding.script)


@pytest.fixture(scope="module")
def packing(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that makes its largest weights when it is loaded."""
    folder = tmp_path_factory.mktemp("packing") / "net"
    return planted.write(folder, chosen=planted.winograd(), at_load=True)


def test_weights_that_are_made_at_load(packing: Bundle) -> None:
    assert bisected(packing).right


def test_a_corrupted_weight_that_others_are_made_of(packing: Bundle, tmp_path: Path) -> None:
    kernel = next(iter(planted.winograd()))
    folder = tmp_path / "net"
    shutil.copytree(packing.folder, folder)
    planted.change_library(folder, planted.weight_of(kernel), 40.0)
    finding = wrong_in(bundle.read(folder))
    assert finding.lowered == kernel
    assert "its weights in the library are not the model's" in finding.cause


DROPPED = {
    "relu": ("relax.nn.relu", 1, "fused_conv2d1_", "'relu.default'"),
    "relu of a concatenation": ("relax.nn.relu", 2, "fused_conv2d2_", "'relu.default'"),
    "bias": ("relax.add", 0, "fused_conv2d_", "'convolution.default' in module 'first'"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_a_wrong_epilogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    operator, number, expected, described = DROPPED[name]
    with monkeypatch.context() as patch:
        extra = planted.canonicalize_and(planted.dropping(operator, number))
        patch.setattr(pipeline, "canonicalize", extra)
        made = planted.write(tmp_path / "net")
        with_the_pass = wrong_in(made)
    assert "before any schedule" in with_the_pass.cause
    without_it = wrong_in(made)
    assert "other passes built it" in without_it.cause
    for finding in (with_the_pass, without_it):
        assert finding.lowered.startswith(expected)
        assert any(described in each for each in finding.operators)
        assert finding.difference is not None
        assert finding.difference.relative > 1e-3


def test_on_an_emulated_board(tmp_path: Path, with_rule: None, emulator: None) -> None:
    chosen = planted.summing_integers("rasp4")
    made = planted.write(tmp_path / "net", "rasp4", chosen=chosen)
    found = bisected(made)
    assert "emulated cortex-a72" in found.where
    assert found.finding is not None
    assert {found.finding.lowered} == chosen.keys()
    assert "emulated cortex-a72" in output_of(found.finding.script)
    with pytest.raises(BundleError, match=r"made for rasp4 \(aarch64\); this machine is"):
        bisected(made, on="host")


def test_a_bundle_of_an_earlier_format(tmp_path: Path) -> None:
    right = planted.write(tmp_path / "right", runtime="virtual-machine")
    made = planted.corrupted(right, tmp_path / "net", 1, 1)
    path = made.folder / bundle.MANIFEST
    data = json.loads(path.read_text())
    del data["kernels"], data["runtime"]
    path.write_text(json.dumps({**data, "format": 5}))
    finding = wrong_in(bundle.read(made.folder))
    assert (finding.number, finding.schedule) == (1, None)
    assert "its weights in the library" in finding.cause


def test_kernels_of_other_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fuse", planted.fuse_without("FuseOps"))
        made = planted.write(tmp_path / "net")
    with pytest.raises(BundleError, match=r"calls \d+ kernels, and Net is lowered to \d+; other"):
        bisected(made)


def test_a_network_with_other_weights(right: Bundle) -> None:
    torch.manual_seed(5)
    with pytest.raises(ModelError, match=r"another network, other weights or .*: .*output 0 is"):
        bisected(right, model=planted.Net().eval())


def test_a_library_for_a_gpu(tmp_path: Path, right: Bundle) -> None:
    golden = right.golden()
    made = bundle_writer.write(
        tmp_path / "gpu",
        right.library,
        model="Net",
        target=targets.load("rk3399-mali"),
        golden=Golden(golden.inputs, golden.outputs),
        validation=Validation(1e-5, 2e-7, 1, "a test"),
        opencl=OpenCLRequirements("1.2", (), 64, 0),
    )
    with pytest.raises(BundleError, match="runs its kernels on a GPU, which bisect cannot"):
        bisected(made)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": None}, UsageError, "built from Net, which is no model of the zoo; give .*--mod"),
        ({"model": 3}, UsageError, "the model is a int; give"),
        ({"on": "mars"}, UsageError, "'mars' is no device; give host, emulated, or HOST:PORT"),
        ({"on": "emulated"}, UsageError, "host has no emulated board; leave --on emulated out"),
        ({"on": 3}, UsageError, "on is a int; give a string"),
        ({"on": "127.0.0.1:1"}, DeviceError, "nothing listens on 127.0.0.1:1"),
        ({"key": "secret"}, UsageError, "give --on HOST:PORT as well"),
        ({"target": "mars"}, TargetError, "unknown target 'mars'"),
        ({"output": ROOT / "docs"}, BundleError, "docs holds '.*', which would be lost"),
        ({"output": 3}, UsageError, "output is a int; give a string or a path"),
    ],
)
def test_misuse(
    right: Bundle, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        bisected(right, **options)
    assert "\n" not in str(caught.value)

"""Validation on a user's own data, by the whole way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_bundles import Maker, tensor
from PIL import Image
from torch import nn

import tvm_eff
from tvm_eff.cli import tune
from tvm_eff.deploy.own_data import validate_on_data
from tvm_eff.device import Device, LocalDevice
from tvm_eff.errors import UsageError, ValidationError
from tvm_eff.models import Network, Program, Sample, trace
from tvm_eff.tensors import TensorSpec

SPEC = TensorSpec((2, 3), "float32")


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with LocalDevice(threads=1) as opened:
        yield opened


def run(device: Device, library: Path, samples: list[Sample], module: nn.Module) -> Any:
    program: Program = trace(Network("net", module.eval(), (SPEC,)))
    counts: list[int] = []
    found = validate_on_data(device, library, program, samples, "float32", "data", counts.append)
    assert counts == list(range(1, len(samples) + 1))
    return found


def sample(seed: int, label: list[int] | None = None) -> Sample:
    return Sample(f"s{seed}", (tensor(seed),), None if label is None else np.array(label))


def test_a_wrong_library(maker: Maker, device: Device) -> None:
    class Thrice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 3

    with pytest.raises(ValidationError, match=r"s0: output 0 is wrong"):
        run(device, maker.library("host"), [sample(0)], Thrice())


def test_data_that_pytorch_makes_nan_of(maker: Maker, device: Device) -> None:
    broken = Sample("s7", (np.full(SPEC.shape, np.nan, SPEC.dtype),))
    with pytest.raises(ValidationError, match=r"s7: PyTorch's own output 'output' of net is NaN"):
        run(device, maker.library("host"), [sample(0), broken], Twice())


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([sample(0, [0, 3])], "the label 3 of s0 is none of the model's 3 classes"),
        ([sample(0, [0, -1])], "the label 0 of s0 is none"),
        ([sample(0, [0])], "s0 has 1 labels for 2 rows"),
        ([sample(0, [0, 1]), sample(1)], "s1 has no label, and others of data have one"),
    ],
)
def test_wrong_labels(maker: Maker, device: Device, samples: list[Sample], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(device, maker.library("host"), samples, Twice())


def test_labels_of_what_is_no_class(maker: Maker, device: Device) -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 2).flatten()

    with pytest.raises((UsageError, ValidationError), match=r"no row of class scores|wrong"):
        run(device, maker.library("host"), [sample(0, [1, 1])], Flat())


def test_shares(maker: Maker, device: Device) -> None:
    samples = []
    for seed in range(5):
        best = tensor(seed).argmax(1)
        if seed == 0:
            best[0] = (best[0] + 1) % 3
        samples.append(sample(seed, best.tolist()))
    found = run(device, maker.library("host"), samples, Twice())
    assert (found.samples, found.same_class, found.top1, found.pytorch_top1) == (5, 1, 0.9, 0.9)
    unlabelled = run(device, maker.library("host"), [sample(0)], Twice())
    assert (unlabelled.same_class, unlabelled.top1) == (1.0, None)


NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, 2))
"""


def test_a_folder_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(NET)
    rng = np.random.default_rng(0)
    for number in range(6):
        folder = tmp_path / "pets" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (20, 30, 3), "uint8")
        Image.fromarray(pixels).save(folder / f"{number}.png")
    command = ["--target", "host", "--model", f"{tmp_path / 'net.py'}:net", "--no-measure"]
    command += ["--input-shape", "1,3,16,16", "--output", str(tmp_path / "dist"), "--json"]
    command += ["--logs", str(tmp_path / "logs"), "--validate", str(tmp_path / "pets")]
    assert tune.main(command) == 2
    assert "--preprocess mean=" in capsys.readouterr().err
    assert not (tmp_path / "dist" / "net-host").exists()

    assert tune.main([*command, "--preprocess", "mean=0.5,std=0.2,layout=NHWC,dtype=uint8"]) == 0
    printed = capsys.readouterr().out
    assert "your data    on pets, 6 samples: error at most" in printed
    assert "; PyTorch itself is off by " in printed
    assert json.loads(printed.splitlines()[-1])["pytorch_error"] > 0
    found = tvm_eff.load(tmp_path / "dist" / "net-host").manifest.validation.data
    assert found is not None
    assert (found.source, found.samples, found.same_class) == ("pets", 6, 1.0)
    assert found.top1 == found.pytorch_top1

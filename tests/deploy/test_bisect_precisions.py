"""A library in integers or half precision is compared with the network as it was built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch
from network_modules import randomize
from quantized_networks import Added, traced
from torch import nn

import tvm_eff
from tvm_eff import passes, targets
from tvm_eff.deploy.bisect.packed import packed_constants
from tvm_eff.deploy.bundle import Bundle, read
from tvm_eff.deploy.source import same_source
from tvm_eff.errors import ModelError, UsageError

SHAPE = (1, 8, 10, 10)


def network() -> nn.Module:
    torch.manual_seed(0)
    return randomize(nn.Sequential(Added(), nn.Flatten(), nn.Linear(400, 10))).eval()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(12, *SHAPE)).astype("float32"))
    return path


def compiled(folder: Path, **options: Any) -> Bundle:
    return tvm_eff.compile(
        network(),
        torch.randn(SHAPE),
        logs=folder / "logs",
        output=folder / "dist",
        measure=False,
        **options,
    )


@pytest.mark.parametrize("dtype", ["int8", "auto"])
def test_a_calibrated_library_is_right(tmp_path: Path, data: Path, dtype: str) -> None:
    made = compiled(tmp_path, dtype=dtype, calibrate=data)
    found = made.bisect(model=network(), calibrate=data)
    assert found.right, found.text()
    assert found.compared > 3


def test_a_wrong_weight_in_integers(tmp_path: Path, data: Path) -> None:
    made = compiled(tmp_path, dtype="int8", calibrate=data)
    target = targets.load("host")
    source = same_source(traced(network(), SHAPE), target, data, made.manifest.validation)
    lowered = passes.lower(source.imported, target, source.dtype)
    constants = packed_constants(lowered, made.manifest.kernels, target)
    assert constants is not None
    weights = [each for call in constants for each in call.values() if each.dtype == "int8"]
    planted.change_library(made.folder, max(weights, key=lambda each: each.size), 3.0)
    found = read(made.folder).bisect(model=network(), calibrate=data)
    assert found.finding is not None, found.text()
    assert "its weights in the library are not the model's" in found.finding.cause


def test_random_calibration_is_the_same_again(tmp_path: Path, data: Path) -> None:
    made = compiled(tmp_path, dtype="int8")
    assert made.bisect(model=network()).right
    with pytest.raises(UsageError, match="was calibrated on random inputs when the bundle"):
        made.bisect(model=network(), calibrate=data)


def test_half_precision_on_an_emulated_board(tmp_path: Path, emulator: None) -> None:
    made = compiled(tmp_path, dtype="float16", target="rasp5")
    found = made.bisect(model=network())
    assert found.right, found.text()
    assert "emulated cortex-a76" in found.where


def test_what_it_was_not_built_from(tmp_path: Path, data: Path) -> None:
    made = compiled(tmp_path / "int8", dtype="int8", calibrate=data)
    with pytest.raises(UsageError, match=r"was calibrated on data\.npz when the bundle was built"):
        made.bisect(model=network())
    np.savez(
        tmp_path / "other.npz", x=7 * np.ones((3, *SHAPE), "float32") * np.eye(10, dtype="float32")
    )
    with pytest.raises(ModelError, match="another network, other weights or other calibration"):
        made.bisect(model=network(), calibrate=tmp_path / "other.npz")
    with pytest.raises(UsageError, match="there is no data"):
        made.bisect(model=network(), calibrate=tmp_path / "none.npz")
    plain = compiled(tmp_path / "float32")
    with pytest.raises(UsageError, match=r"was not quantized .*; leave --calibrate out"):
        plain.bisect(model=network(), calibrate=data)

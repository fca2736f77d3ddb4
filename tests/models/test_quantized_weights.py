"""Weights that others' tools have quantized are refused by name, or computed as they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchao.quantization import (
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    PerGroup,
    quantize_,
)
from torchao.utils import unwrap_tensor_subclass

from tvm_eff import models
from tvm_eff.errors import ModelError
from tvm_eff.tensors import TensorSpec

X = TensorSpec((1, 64), "float32")


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).eval()


def four_bits() -> nn.Module:
    quantized = network()
    int4 = torch.int4  # type: ignore[attr-defined]
    quantize_(quantized, IntxWeightOnlyConfig(weight_dtype=int4, granularity=PerGroup(32)))
    return quantized


def eight_bits() -> nn.Module:
    quantized = network()
    quantize_(quantized, Int8WeightOnlyConfig())
    return quantized


def dynamic() -> nn.Module:
    quantized = network()
    quantize_(quantized, Int8DynamicActivationInt8WeightConfig())
    return quantized


def packed() -> nn.Module:
    quantize_dynamic: Any = torch.ao.quantization.quantize_dynamic
    quantized: nn.Module = quantize_dynamic(network(), {nn.Linear})
    return quantized


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (four_bits, "'0.weight' of net is of the class IntxUnpackedToInt8Tensor"),
        (eight_bits, "'0.weight' of net is of the class Int8Tensor"),
        (dynamic, "'0.weight' of net is of the class Int8Tensor"),
        (packed, r"'0\._packed_params\._packed_params' of net is packed"),
    ],
)
def test_a_module(make: Callable[[], nn.Module], named: str) -> None:
    with pytest.raises(ModelError, match=named + ".*--dtype int8"):
        models.of_module(make(), [X], name="net")


def test_a_program() -> None:
    program = torch.export.export(four_bits(), (torch.zeros(X.shape),))
    with pytest.raises(ModelError, match=r"of the class IntxUnpackedToInt8Tensor.*--dtype int8"):
        models.of_program(program, "net")


def test_a_saved_program(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(four_bits(), (torch.zeros(X.shape),)), path)
    with pytest.raises(ModelError, match=r"net\.pt2 has weights of a class.*--dtype int8"):
        models.load(str(path))


READ = """
import sys, torch
from tvm_eff import models
assert "torchao" not in sys.modules
network = models.load(sys.argv[1])
torch.save(network.module.module()(torch.ones(1, 64)), sys.argv[2])
"""


def test_a_saved_program_of_torchaos_operators(tmp_path: Path) -> None:
    """They are known to PyTorch only where torchao has been imported."""
    plain, path, result = four_bits(), tmp_path / "net.pt2", tmp_path / "y.pt"
    unwrap_tensor_subclass(plain)
    torch.export.save(torch.export.export(plain, (torch.zeros(X.shape),)), path)
    subprocess.run([sys.executable, "-c", READ, path, result], check=True)
    with torch.no_grad():
        assert torch.equal(torch.load(result), plain(torch.ones(X.shape)))


def test_operators_of_a_package_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, path = four_bits(), tmp_path / "net.pt2"
    unwrap_tensor_subclass(plain)
    torch.export.save(torch.export.export(plain, (torch.zeros(X.shape),)), path)
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(ModelError, match="calls operators of torchao, which cannot be imported"):
        models.load(str(path))

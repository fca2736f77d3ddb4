"""Sums of many values, which are as near to the exact ones as PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tvm_eff import frontend, passes, targets
from tvm_eff.deploy.library import build_library
from tvm_eff.device import LocalDevice
from tvm_eff.models import Network, trace
from tvm_eff.tensors import TensorSpec

Function = Callable[[torch.Tensor], torch.Tensor]

SUMS: dict[str, tuple[Function, tuple[int, ...]]] = {
    "of_a_prime_number": (lambda x: x.sum(-1), (2, 100003)),
    "of_all": (lambda x: x.sum(), (3, 24, 32)),
    "mean_of_maps": (lambda x: x.mean((2, 3), keepdim=True), (1, 8, 112, 56)),
    "mean_of_all": (lambda x: x.mean(), (1, 3, 224, 224)),
    "mean_of_pooled_maps": (lambda x: F.adaptive_avg_pool2d(x, 1), (1, 4, 128, 128)),
    "variance": (lambda x: x.var((2, 3)), (1, 3, 64, 64)),
    "softmax": (lambda x: x.softmax(-1), (2, 50176)),
    "softmax_along_rows": (lambda x: x.softmax(1), (2, 3001, 3)),
    "log_softmax": (lambda x: x.log_softmax(1), (2, 10007)),
    "instance_norm": (F.instance_norm, (1, 3, 128, 128)),
    "group_norm": (lambda x: F.group_norm(x, 2), (1, 4, 64, 65)),
    "layer_norm": (lambda x: F.layer_norm(x, (4099,)), (2, 4099)),
    "expected_place": (lambda x: x @ torch.linspace(0, 1, 3072).to(x)[:, None], (4, 3072)),
}


class _Applied(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize("name", SUMS)
def test_as_near_as_pytorch(name: str, tmp_path: Path) -> None:
    function, shape = SUMS[name]
    target = targets.load("host")
    program = trace(Network(name, _Applied(function).eval(), (TensorSpec(shape, "float32"),)))
    library = tmp_path / "model.so"
    build_library(passes.lower(frontend.import_program(program), target), None, target, library)
    # Values of one sign, whose roundings do not cancel out.
    x = 1 + np.random.default_rng(0).random(shape).astype("float32")
    with LocalDevice(threads=1) as device:
        (found,), _ = device.run(library, [x])
    with torch.no_grad():
        exact = function(torch.from_numpy(x).double()).numpy()
    theirs = np.abs(program.run([x])[0] - exact).max()
    # Three levels of sums of a few dozen values.
    allowed = max(4 * theirs, 6e-7 * np.abs(exact).max())
    assert np.abs(found - exact).max() <= allowed

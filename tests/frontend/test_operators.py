"""Operators that TVM's importer lacks, gets wrong, or needs a runtime for that boards lack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tvm_eff import frontend, passes, targets
from tvm_eff.deploy.library import build_library
from tvm_eff.device import LocalDevice
from tvm_eff.models import Network, trace
from tvm_eff.tensors import TOLERANCE, TensorSpec, random_inputs, relative_error


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


IMAGE = TensorSpec((2, 4, 5, 7), "float32")
IDS = TensorSpec((6,), "int64")


def recurrent(kind: type[nn.LSTM | nn.GRU], **options: bool) -> nn.Module:
    torch.manual_seed(0)
    return kind(7, 3, **options)


def attention(x: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(x, x * 2, x - 1, attn_mask=mask)


LSTM, GRU = recurrent(nn.LSTM, bidirectional=True, batch_first=True), recurrent(nn.GRU)
LINES = TensorSpec((4, 2, 7), "float32")

CASES: dict[str, tuple[Callable[[torch.Tensor], Any], TensorSpec]] = {
    "amax": (lambda x: (x.amax((2, 3)), x.amin(1, keepdim=True), x.amax()), IMAGE),
    "max_and_place": (lambda x: x.max(1), IMAGE),
    "min_and_place": (lambda x: x.min(2, keepdim=True), IMAGE),
    "prod": (lambda x: x.prod(1), IMAGE),
    "argmax": (lambda x: x.argmax(1), IMAGE),
    "reflection": (lambda x: F.pad(x, (1, 2, 3, 1), mode="reflect"), IMAGE),
    "replication": (lambda x: F.pad(x, (1, 2, 3, 1), mode="replicate"), IMAGE),
    "group_norm": (lambda x: F.group_norm(x, 2), IMAGE),
    "nearest": (lambda x: F.interpolate(x, size=(13, 9)), IMAGE),
    "nearest_twice": (lambda x: F.interpolate(x, scale_factor=2), IMAGE),
    "bilinear": (lambda x: F.interpolate(x, size=(13, 9), mode="bilinear"), IMAGE),
    "lstm": (lambda x: LSTM(x)[0], LINES),
    "lstm_states": (lambda x: LSTM(x)[1], LINES),
    "gru": (lambda x: GRU(x), LINES),
    "attention": (attention, IMAGE),
    "one_hot": (lambda ids: F.one_hot(ids % 4, 4).float(), IDS),
    "the_input_itself": (lambda x: (x, x + 1), IMAGE),
}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str, tmp_path: Path) -> None:
    function, spec = CASES[name]
    target = targets.load("host")
    program = trace(Network(name, Applied(function).eval(), (spec,)))
    inputs = random_inputs([spec])
    expected = program.run(inputs)
    lowered = passes.lower(frontend.import_program(program), target)
    path = tmp_path / "model.so"
    build_library(lowered, None, target, path)
    with LocalDevice(threads=1) as device:
        actual, _ = device.run(path, inputs)
    for found, wanted in zip(actual, expected, strict=True):
        assert found.dtype == wanted.dtype
        assert relative_error(found, wanted) <= TOLERANCE

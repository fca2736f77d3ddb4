"""Tracing: names of inputs and outputs, and networks that cannot be traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from tvm_eff import models
from tvm_eff.errors import ModelError
from tvm_eff.models import Network
from tvm_eff.tensors import TensorSpec


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


class Scores(NamedTuple):
    """Outputs with names."""

    boxes: torch.Tensor
    scores: torch.Tensor


def network(module: nn.Module, *shapes: tuple[int, ...]) -> Network:
    return Network("net", module.eval(), tuple(TensorSpec(s, "float32") for s in shapes))


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x + 1, ("output",)),
        (lambda x: (x + 1, x * 2), ("output0", "output1")),
        (lambda x: [x + 1], ("output0",)),
        (
            lambda x: {"logits": x + 1, "features": (x, x * 2)},
            ("logits", "features.0", "features.1"),
        ),
        (lambda x: Scores(x, x + 1), ("boxes", "scores")),
    ],
    ids=["tensor", "tuple", "list", "dict", "named_tuple"],
)
def test_names_of_outputs(function: Callable[[torch.Tensor], Any], names: tuple[str, ...]) -> None:
    program = models.trace(network(Applied(function), (2, 3)))
    assert program.outputs == names
    assert len(program.run([np.ones((2, 3), "float32")])) == len(names)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda x: {"y": x + 1, "aux": None}, "the output 'aux' of net is None, not a tensor"),
        (lambda x: (x, 3), "the output 'output1' of net is 3, not a tensor"),
        (lambda x: (), "net returns nothing"),
    ],
)
def test_outputs_that_are_no_tensors(function: Callable[[torch.Tensor], Any], wanted: str) -> None:
    with pytest.raises(ModelError, match=wanted):
        models.trace(network(Applied(function), (2, 3)))


def test_rejected_input_says_where() -> None:
    with pytest.raises(ModelError, match=r"net rejects an input of 1 x 4 .*\d+ channels"):
        models.trace(network(nn.Conv2d(3, 4, 1), (1, 4, 8, 8)))

    def forward(x: torch.Tensor) -> torch.Tensor:
        raise KeyError("no such layer")

    with pytest.raises(ModelError, match=r"no such layer.*test_program.py:\d+, in forward"):
        models.trace(network(Applied(forward), (1, 4)))


def test_training_mode() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    with pytest.raises(ModelError, match=r"'1' \(BatchNorm2d\).*call .eval\(\)"):
        models.trace(Network("net", body, (TensorSpec((1, 3, 4, 4), "float32"),)))


def test_output_of_nan_cannot_be_compared_with() -> None:
    program = models.trace(network(Applied(lambda x: torch.log(-torch.abs(x) - 1)), (4,)))
    with pytest.raises(ModelError, match="output 'output' of net is NaN"):
        program.run([np.ones(4, "float32")])


class Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x


class Loop(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x.argmax())):
            x = x + 1
        return x


class Number(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(x.max())


@pytest.mark.parametrize("kind", [Branch, Loop, Number])
def test_what_depends_on_values_is_named_with_its_line(kind: type[nn.Module]) -> None:
    network = Network("net", kind(), (TensorSpec((6,), "float32"),))
    with pytest.raises(ModelError, match=r"depends on the values .*test_program\.py:\d+, in forw"):
        models.trace(network)

"""What is refused before anything is imported, with its name and line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_operators import Applied
from torch import nn

from tvm_eff import frontend
from tvm_eff.errors import ModelError
from tvm_eff.models import Network, trace
from tvm_eff.tensors import TensorSpec

SPEC = TensorSpec((2, 3, 4), "float32")


def imported(module: nn.Module, spec: TensorSpec = SPEC) -> Any:
    return frontend.import_program(trace(Network("net", module.eval(), (spec,))))


class Remembering(nn.Module):
    """It returns what it saw before."""

    def __init__(self) -> None:
        super().__init__()
        self.last: torch.Tensor
        self.register_buffer("last", torch.zeros(2, 3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved = x - self.last
        self.last.copy_(x)
        return moved


def test_state() -> None:
    with pytest.raises(ModelError, match=r"keeps state in its buffer 'last' .* take it as an in"):
        imported(Remembering())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_parameters(dtype: str) -> None:
    module = nn.Linear(4, 2).to(getattr(torch, dtype))
    with pytest.raises(ModelError, match=rf"parameter 'weight' is {dtype}; call \.float\(\)"):
        imported(With(module))


class With(nn.Module):
    """A module behind a cast to its dtype."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.weight = inner.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.to(self.weight.dtype) @ self.weight.T).float()


def test_half_precision_within() -> None:
    with pytest.raises(ModelError, match=r"'_to_copy.default' .*test_operators.py:\d+\) comp"):
        imported(Applied(lambda x: (x.half() * 2).float()))


@pytest.mark.parametrize(
    "function",
    [lambda x: x - x.median(), lambda x: x.sort(1)[0], lambda x: x.topk(2)[0]],
    ids=["median", "sort", "topk"],
)
def test_operators_without_kernels(function: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises(ModelError, match=r"no kernel for operator '.*test_operators.py:\d+\);"):
        imported(Applied(function))


def written(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros(3)
    y[x[0, 0, :2].long() % 3] = 1.0
    return y


REFUSED: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "computed_places": (written, "computed from the input; write it with torch.where"),
    "places_of_maxima": (
        lambda x: nn.functional.adaptive_max_pool2d(x, 2, return_indices=True)[1],
        "the places of the largest values are not supported",
    ),
    "empty_slice": (lambda x: x[:, 3:1], "the slice is empty"),
    "often_added": (
        lambda x: x.index_put((torch.zeros(20, dtype=torch.long),), x[0], accumulate=True),
        "added to more than 16 times",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_a_converter(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(ModelError, match=rf"test_operators.py:\d+\): .*{message}"):
        imported(Applied(function))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0).sum(),
        torch.nonzero,
        torch.unique,
        lambda x: x.repeat_interleave(x.flatten().long().abs(), 0),
    ],
)
def test_sizes_that_depend_on_values(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    message = r"the result of operator '.*' \(.*\.py:\d+\) has a size that depends"
    with pytest.raises(ModelError, match=message):
        imported(Applied(function), TensorSpec((6,), "float32"))

"""What is refused before anything is imported, with its name and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_operators import Applied
from torch import nn
from tvm import relax

from tvm_eff import frontend
from tvm_eff.errors import ModelError
from tvm_eff.frontend.operators import CONVERTERS
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


def far_apart(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y[x[0, 0, :2].long() % 2, :, torch.tensor([0, 1])] = 1.0
    return y


PLACE = torch.zeros(4, dtype=torch.long)

REFUSED: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "values_behind_a_mask": (
        lambda x: x.index_put((x == x,), x.flatten()),
        "several values are written where a mask is; write it with torch.where",
    ),
    "computed_places_apart": (far_apart, "along axes that are apart; permute them before"),
    "computed_places_of_much": (
        lambda x: torch.zeros(5000, 5000).scatter_add(0, x.long().abs()[0], x[0]),
        "pairs of values and places, and at most 16777216 are supported",
    ),
    "places_of_maxima_of_much": (
        lambda x: nn.functional.max_pool2d(x.repeat(1, 6, 4), 12, return_indices=True),
        "the places of the largest of 144 values are not supported, but of at most 128",
    ),
    "antialias_to_a_line": (
        lambda x: nn.functional.interpolate(x[None], (3, 1), mode="bilinear", antialias=True),
        "PyTorch's antialiasing gives all rows the same values",
    ),
    "empty_slice": (lambda x: x[:, 3:1], "the slice is empty"),
    "often_added": (
        lambda x: torch.zeros(9000, 500).index_put((PLACE,), x[0, 0].repeat(125), True),
        "a place is added to 4 times, and there are 4500000; use a sum",
    ),
    "memory_of_a_view": (lambda x: x[:, 1:].as_strided((2, 2), (4, 1)), r"call .contiguous\(\)"),
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


NEVER: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "random": (lambda x: x + torch.rand_like(x), "is random, and a library computes the same"),
    "dropout": (lambda x: nn.functional.dropout(x), r"call dropout with training=False"),
    "number": (lambda x: x * x[0, 0, 0].item(), "takes a number out of a tensor"),
    "complex": (lambda x: torch.fft.rfft(x).abs(), "computes in complex64"),
    "statistics": (
        lambda x: torch.ops.aten.native_layer_norm(x, [4], None, None, 1e-5),
        "only the first result is supported",
    ),
}


@pytest.mark.parametrize("name", NEVER)
def test_refused_by_name(name: str) -> None:
    function, message = NEVER[name]
    with pytest.raises(ModelError, match=rf"operator '.*test_operators.py:\d+\) .*{message}"):
        imported(Applied(function))


def test_what_tvm_says_is_written_to_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(node: torch.fx.Node, importer: Any) -> relax.Var:
        return importer.block_builder.emit(relax.op.cos(importer.env[node.args[0]]))

    monkeypatch.setenv("TVM_EFF_CACHE", str(tmp_path))
    monkeypatch.setitem(CONVERTERS, "floor.default", failing)
    with pytest.raises(ModelError, match=r"'floor.default' .* is not supported with") as caught:
        imported(Applied(lambda x: x.long().floor()))
    assert "relax" not in str(caught.value).replace("imported to Relax", "")
    (report,) = (tmp_path / "failures").iterdir()
    assert str(report) in str(caught.value)
    assert "requires the input tensor to have float dtype" in report.read_text()

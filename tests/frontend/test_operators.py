"""Operators that TVM's importer lacks, gets wrong, or needs a runtime for that boards lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tvm_eff import frontend, passes, targets
from tvm_eff.deploy.library import build_library
from tvm_eff.device import Device, LocalDevice
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


def scattered(ids: torch.Tensor) -> list[torch.Tensor]:
    values, counts = torch.arange(6.0) + ids, torch.zeros(3)
    written = torch.zeros(2, 3)
    written[ids, ids + 1] = 7.0
    return [
        counts.scatter_add(0, ids, values),
        counts.scatter_reduce(0, ids, values, "amax", include_self=False),
        counts.index_put((ids,), values, accumulate=True),
        values.masked_scatter(ids > 0, values.flip(0)),
        written,
    ]


TABLE = torch.arange(12.0).reshape(4, 3)
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
    "powers_of_two": (lambda x: (x.exp2(), torch.expm1(x), torch.log1p(x.abs())), IMAGE),
    "integers_in_floats": (lambda ids: (ids.sin(), ids.exp(), 2**ids, ids**ids), IDS),
    "shifts": (lambda ids: (1 << ids, ids << ids, ids >> 1, ids << 70), IDS),
    "distances": (
        lambda x: (torch.cdist(x, x + 1), torch.cdist(x, x, 1.0), F.pdist(x[0, 0])),
        IMAGE,
    ),
    "bilinear_form": (lambda x: F.bilinear(x, x * 2, torch.ones(3, 7, 7)), IMAGE),
    "places_of_maxima": (
        lambda x: (
            F.max_pool2d(x, 3, 2, 1, return_indices=True),
            F.adaptive_max_pool2d(x, (2, 3), return_indices=True),
            F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), (2, 2), output_size=(5, 7)),
        ),
        IMAGE,
    ),
    "scattered": (scattered, IDS),
    "transposed": (
        lambda x: (
            F.conv_transpose3d(x[:, :, None], torch.ones(4, 2, 2, 3, 3), None, 2, 1, 1, 2),
            F.conv_transpose2d(x, torch.ones(4, 3, 3, 2), torch.ones(3), 1, 1, 1, 1, 2),
            F.conv_transpose1d(x[:, :, 0], torch.ones(4, 3, 3), None, 1, 0, 2, 1, 3),
        ),
        IMAGE,
    ),
    "bags": (lambda ids: F.embedding_bag(ids.reshape(2, 3), TABLE, mode="max"), IDS),
    "folded": (lambda x: F.fold(F.unfold(x, 3), (5, 7), 3), IMAGE),
    "product_of_integers": (lambda ids: ids.reshape(2, 3) @ ids.reshape(3, 2), IDS),
    "the_input_itself": (lambda x: (x, x + 1), IMAGE),
}


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with LocalDevice(threads=1) as opened:
        yield opened


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str, device: Device, tmp_path: Path) -> None:
    function, spec = CASES[name]
    target = targets.load("host")
    program = trace(Network(name, Applied(function).eval(), (spec,)))
    inputs = random_inputs([spec])
    expected = program.run(inputs)
    lowered = passes.lower(frontend.import_program(program), target)
    path = tmp_path / "model.so"
    build_library(lowered, None, target, path)
    actual, _ = device.run(path, inputs)
    for found, wanted in zip(actual, expected, strict=True):
        assert found.dtype == wanted.dtype
        assert relative_error(found, wanted) <= TOLERANCE


def every_function(x: torch.Tensor) -> list[torch.Tensor]:
    """Of values of every magnitude: those of a closed gate are tiny, and a norm enlarges them."""
    most, unit = x.abs(), x.clamp(-0.95, 0.95)
    return [
        *(x.tanh(), x.sinh(), x.cosh(), x.asinh(), x.atan(), x.sin(), x.sigmoid(), x.erf()),
        *(x.exp(), x.exp2(), x.expm1(), F.elu(x), F.silu(x), F.mish(x.clamp(min=-1))),
        *(unit.atanh(), unit.asin(), unit.tan(), (most + 1.1).acosh()),
        *(most.log(), most.log2(), most.log10(), most.log1p(), most.sqrt()),
    ]


def test_each_value_is_near_by_its_own_magnitude(device: Device, tmp_path: Path) -> None:
    magnitudes = torch.cat([1.7 * 10.0 ** torch.arange(-30.0, 0), torch.linspace(0.3, 40, 35)])
    x = torch.cat([magnitudes, -magnitudes])
    target, spec = targets.load("host"), TensorSpec(tuple(x.shape), "float32")
    program = trace(Network("functions", Applied(every_function), (spec,)))
    path = tmp_path / "model.so"
    lowered = passes.lower(frontend.import_program(program), target)
    build_library(lowered, None, target, path)
    actual, _ = device.run(path, [x.numpy()])
    exact = [each.numpy() for each in every_function(x.double())]
    for place, (found, wanted) in enumerate(zip(actual, exact, strict=True)):
        assert (abs(found - wanted) <= 2e-6 * abs(wanted) + 1e-38).all(), place

"""Quantization after training: what is refused, what is named, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from quantized_networks import Added, Gated, Narrow, between, quantized, traced
from torch import nn

from tvm_eff import quantize
from tvm_eff.errors import ModelError, UsageError
from tvm_eff.frontend import decompose, import_program
from tvm_eff.models import Program, Sample, of_program, trace

SHAPE = (1, 8, 6, 6)


def sample(array: np.ndarray, name: str = "image.png") -> Iterator[Sample]:
    yield Sample(name, (array.astype("float32"),))


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    return traced(between(nn.BatchNorm2d(16), nn.ReLU()), SHAPE)


def test_nan_is_refused(program: Program) -> None:
    x = np.ones(SHAPE)
    x[0, 1, 2, 3] = np.nan
    x[0, 0, 0, 0] = np.inf
    with pytest.raises(UsageError, match=r"^image\.png cannot calibrate: 'input' has 2 values"):
        quantize.quantize(program, sample(x), "folder", "uint8")


def test_one_value_is_refused(program: Program) -> None:
    with pytest.raises(UsageError, match="cannot calibrate: every value is 3; give samples like"):
        quantize.quantize(program, sample(np.full(SHAPE, 3)), "folder", "uint8")


def test_nothing_to_quantize_is_refused() -> None:
    with pytest.raises(ModelError, match="has no operator that is computed in integers"):
        quantize.quantize(traced(nn.Sigmoid(), SHAPE), None, None, "uint8")


def test_twice_is_refused() -> None:
    case = quantized(between(), SHAPE)
    with pytest.raises(ModelError, match="is quantized already: it is compiled as it is"):
        quantize.quantize(case.quantized, None, None, "uint8")


def test_the_network_keeps_its_weights(program: Program) -> None:
    """Folding batch norm writes into the module that it is given."""
    before = {name: value.clone() for name, value in program.exported.state_dict.items()}
    quantize.quantize(program, None, None, "int8")
    assert before.keys() == program.exported.state_dict.keys()
    for name, value in program.exported.state_dict.items():
        assert torch.equal(value, before[name])


def test_nothing_of_float32_weights_is_left(program: Program) -> None:
    found = quantize.quantize(program, None, None, "int8").program.exported
    held = [*found.state_dict.values(), *found.constants.values()]
    assert {each.dtype for each in held if each.dim() == 4} == {torch.int8}


def test_operators_in_float32_are_named_with_their_module() -> None:
    assert quantized(Gated(), SHAPE).in_float32 == ("sigmoid.default",)
    nested = nn.Sequential(between(), nn.Sequential(nn.GELU()))
    assert quantized(nested, SHAPE).in_float32 == ("gelu.default in '1.0'",)


def test_loss_is_measured_on_the_data(program: Program) -> None:
    rng = np.random.default_rng(0)
    data = [Sample(str(n), (rng.normal(size=SHAPE).astype("float32"),)) for n in range(5)]
    found = quantize.quantize(program, iter(data), "data", "uint8")
    assert (found.source, found.samples) == ("data", 5)
    assert 25 < found.loss.sqnr_db < 60
    assert found.loss.same_class is None
    exact = quantize.loss_of(program, program, [data[0].inputs])
    assert exact.sqnr_db == pytest.approx(200)


def test_ranges_are_those_of_the_data() -> None:
    """Ten times the values, ten times the scale."""
    program = traced(Added(), SHAPE)
    rng = np.random.default_rng(0)
    x = rng.normal(size=SHAPE)
    steps = []
    for factor in (1, 10):
        found = quantize.quantize(program, sample(factor * x), "data", "uint8").program
        nodes = found.exported.graph.nodes
        steps.append(next(n.args[1] for n in nodes if "quantize_per_tensor" in str(n.target)))
    assert steps[1] == pytest.approx(10 * steps[0], rel=0.02)


LIBRARY = torch.ops.quantized_decomposed


class Grouped(nn.Module):
    """A weight with a scale for every group of values."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(4, 8, dtype=torch.int8))
        self.register_buffer("scales", torch.ones(4, 2))
        self.register_buffer("zeros", torch.zeros(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = LIBRARY.dequantize_per_channel_group(
            self.weight, self.scales, self.zeros, -128, 127, torch.int8, 4, torch.float32
        )
        return x @ weight.t()


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Narrow(), (2, 8), "values from -8 to 7 in torch.int8 are not supported"),
        (Grouped(), (2, 8), "dequantize_per_channel_group"),
    ],
)
def test_other_quantized_programs_are_refused(
    model: nn.Module, shape: tuple[int, ...], message: str
) -> None:
    exported = torch.export.export(model, (torch.randn(shape),))
    again = trace(of_program(exported, "net"))
    with pytest.raises(ModelError, match=message):
        import_program(again, decompose(again))

"""The zoo: exact counts, the same weights every time, errors that offer names."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from counting import macs, parameters
from torch import nn

from tvm_eff import models
from tvm_eff.errors import ModelError
from tvm_eff.models.mobilenet import DepthwiseSeparable
from tvm_eff.models.squeezenet import Fire
from tvm_eff.models.xception import SeparableConvolution


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'squeezenet11'; did you mean 'squeeze"):
        models.spec("squeezenet11")
    with pytest.raises(ModelError, match=r"'zzz'; known: .*squeezenet, squeezenet1_1"):
        models.create("zzz")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mobilenet_0.5_160_7", "unknown model 'mobilenet_0.5_160_7'; did you mean 'mobilenet"),
        ("squeezenet_0.5", "'squeezenet' has no width multiplier; these have: mobilenet"),
        ("mobilenet_9.5", "width multiplier of 9.5 is not between 0 and 4"),
        ("mobilenet_0.0", "width multiplier of 0 is not"),
        ("mobilenet_00", "resolution of 0 is not"),
    ],
)
def test_variant_that_cannot_be(name: str, wanted: str) -> None:
    with pytest.raises(ModelError, match=wanted):
        models.spec(name)


def test_option_that_cannot_be() -> None:
    with pytest.raises(ModelError, match="takes no option 'clases'; did you mean 'classes'"):
        models.create("mobilenet", clases=10)
    with pytest.raises(ModelError, match="cannot have 0 classes"):
        models.create("mobilenet", classes=0)
    with pytest.raises(ModelError, match="says its width or resolution, and so does an option"):
        models.create("mobilenet_0.5", width=0.25)


@pytest.mark.parametrize(
    ("name", "size", "count", "operations"),
    [
        ("squeezenet", 224, 1_248_424, 818_924_576),
        ("squeezenet", 227, 1_248_424, 832_667_936),
        ("squeezenet1_1", 224, 1_235_496, 349_151_936),
        ("squeezenet_bypass", 224, 1_248_424, 818_924_576),
        ("squeezenet_complex_bypass", 224, 1_589_672, 1_165_298_720),
        ("mobilenet", 224, 4_231_976, 568_740_352),
        ("xception", 299, 22_855_952, 8_357_403_496),
    ],
)
def test_counts_are_the_papers(name: str, size: int, count: int, operations: int) -> None:
    model = models.create(name)
    assert parameters(model) == count
    assert macs(model, 1, 3, size, size) == operations


@pytest.mark.parametrize(
    ("name", "count", "millions"),
    [
        ("mobilenet_0.75", 2_585_560, 325.4),
        ("mobilenet_0.5", 1_331_592, 149.5),
        ("mobilenet_0.25", 470_072, 41.0),
        ("mobilenet_192", 4_231_976, 418.1),
        ("mobilenet_160", 4_231_976, 290.7),
        ("mobilenet_128", 4_231_976, 186.4),
    ],
)
def test_counts_of_mobilenets(name: str, count: int, millions: float) -> None:
    model, spec = models.create(name), models.spec(name)
    assert parameters(model) == count
    assert round(macs(model, *spec.input_shape) / 1e6, 1) == millions


def test_conv_mobilenet_is_the_papers() -> None:
    # Table 4: 4866 million multiply-adds, 29.3 million parameters.
    model = models.create("mobilenet_standard")
    assert round(parameters(model) / 1e6, 1) == 29.3
    assert macs(model, 1, 3, 224, 224) == pytest.approx(4866e6, rel=1e-3)


def test_width_and_resolution_by_name_or_option() -> None:
    by_name = models.load("mobilenet_0.5_160")
    by_option = models.load("mobilenet", width=0.5, resolution=160)
    assert by_name.name == by_option.name == "mobilenet_0.5_160"
    assert by_name.inputs == by_option.inputs
    assert by_name.inputs[0].shape == (1, 3, 160, 160)
    assert models.load("mobilenet", width=1, resolution=224).name == "mobilenet"


@pytest.mark.parametrize("name", models.names())
def test_every_model(name: str) -> None:
    spec = models.spec(name)
    side = min(spec.input_shape[2], 128)
    model = models.create(name)
    assert not model.training
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model(x)
        other = model(-x)
    assert output.shape == (1, 10 if "cifar" in name else 1000)
    # Where the output does not depend on the input, validation would say nothing.
    spread = output.max() - output.min()
    assert (other - output).abs().max() > 0.01 * spread
    assert 1e-3 < spread < 1e4


@pytest.mark.parametrize("name", [n for n in models.names() if f"{n}_standard" in models.names()])
def test_standard_twin_has_the_same_shape_and_costs_more(name: str) -> None:
    spec, twin = models.spec(name), models.spec(f"{name}_standard")
    assert spec.input_shape == twin.input_shape
    assert (spec.has_width, spec.paper) == (twin.has_width, twin.paper)
    side = min(spec.input_shape[2], 64)
    cheap, full = models.create(name), models.create(f"{name}_standard")
    assert macs(full, 1, 3, side, side) > 2 * macs(cheap, 1, 3, side, side)
    assert not any(isinstance(layer, models.FactorizedLayer) for layer in full.modules())


@pytest.mark.parametrize(
    "layer",
    [
        Fire(32, 8, 16),
        DepthwiseSeparable(8, 24),
        DepthwiseSeparable(8, 24, stride=2),
        SeparableConvolution(12, 20),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_save_what_the_formula_says(layer: models.FactorizedLayer) -> None:
    standard = layer.standard().eval()
    shape = (1, layer.inputs, 10, 12)
    assert layer.formula().departures == ()
    ratio = Fraction(macs(layer, *shape), macs(standard, *shape))
    assert ratio == layer.formula().ratio
    assert convolution_weights(layer) == layer.formula().ratio * convolution_weights(standard)
    with torch.no_grad():
        assert layer.eval()(torch.zeros(shape)).shape == standard(torch.zeros(shape)).shape


def convolution_weights(layer: nn.Module) -> int:
    return sum(m.weight.numel() for m in layer.modules() if isinstance(m, nn.Conv2d))


def test_weights_follow_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = models.create("squeezenet1_1").state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = models.create("squeezenet1_1").state_dict()
    other = models.create("squeezenet1_1", seed=3).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])
    # Whoever draws numbers of their own is not disturbed.
    assert torch.equal(torch.random.get_rng_state(), state)

"""SqueezeNet: the counts of its versions, its bypasses, the fire module's saving."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from counting import macs, parameters
from torch import nn

from tvm_eff import models
from tvm_eff.models.squeezenet import Bypass, Fire, SqueezeNet


@pytest.mark.parametrize(
    ("name", "size", "count", "operations"),
    [
        ("squeezenet", 224, 1_248_424, 818_924_576),
        ("squeezenet", 227, 1_248_424, 832_667_936),
        ("squeezenet1_1", 224, 1_235_496, 349_151_936),
        ("squeezenet_bypass", 224, 1_248_424, 818_924_576),
        ("squeezenet_complex_bypass", 224, 1_589_672, 1_165_298_720),
    ],
)
def test_counts(name: str, size: int, count: int, operations: int) -> None:
    with torch.device("meta"):
        model = models.create(name)
        assert parameters(model) == count
        assert macs(model, 1, 3, size, size) == operations


def test_names_of_weights_stay() -> None:
    # Weights that users saved have these names.
    with torch.device("meta"):
        names = [name for name, _ in SqueezeNet("1.1").named_parameters()]
    assert names[:2] == ["features.0.weight", "features.0.bias"]
    assert names[2:4] == ["features.3.squeeze.weight", "features.3.squeeze.bias"]
    assert names[-4:] == [
        "features.12.expand3x3.weight",
        "features.12.expand3x3.bias",
        "classifier.1.weight",
        "classifier.1.bias",
    ]
    assert len(names) == 2 * (1 + 8 * 3 + 1)


@pytest.mark.parametrize(
    ("version", "around"),
    [
        ("1.0", {}),
        ("bypass", dict.fromkeys((3, 5, 7, 9), nn.Identity)),
        (
            "complex bypass",
            {fire: nn.Identity if fire % 2 else nn.Conv2d for fire in range(2, 10)},
        ),
    ],
)
def test_bypasses_are_where_figure_2_has_them(
    version: str, around: dict[int, type[nn.Module]]
) -> None:
    with torch.device("meta"):
        layers = [each for each in SqueezeNet(version).features if isinstance(each, Fire | Bypass)]
    fires = enumerate(layers, start=2)  # the paper counts the first convolution
    assert {n: type(each.around) for n, each in fires if isinstance(each, Bypass)} == around


@pytest.mark.parametrize("convolve", [False, True])
def test_bypass_adds(convolve: bool) -> None:
    bypass = Bypass(Fire(32, 8, 16), convolve)
    x = torch.randn(1, 32, 5, 5)
    with torch.no_grad():
        around = bypass(x) - bypass.fire(x)
        wanted = bypass.around(x)
    torch.testing.assert_close(around, wanted)
    assert torch.equal(wanted, x) != convolve


def test_fire_module_saves_what_the_formula_says() -> None:
    fire = Fire(96, 16, 64)
    standard = fire.standard()
    formula = fire.formula()
    # M S + 10 S E over 9 M 2E, by hand.
    assert formula.ratio == Fraction(96 * 16 + 10 * 16 * 64, 9 * 96 * 128)
    assert formula.departures == ()
    assert Fraction(macs(fire, 1, 96, 6, 7), macs(standard, 1, 96, 6, 7)) == formula.ratio
    count = Fraction(parameters(fire, biases=False), parameters(standard, biases=False))
    assert count == formula.ratio
    x = torch.randn(1, 96, 6, 7)
    with torch.no_grad():
        assert standard(x).shape == fire(x).shape == (1, 128, 6, 7)
        assert standard(x).min() == fire(x).min() == 0  # both end in ReLU

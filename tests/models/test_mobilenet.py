"""MobileNet: the counts of its variants, and the saving of a depthwise separable layer."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from counting import macs, parameters
from torch import nn

from tvm_eff import models
from tvm_eff.models.mobilenet import DepthwiseSeparable


def test_counts() -> None:
    with torch.device("meta"):
        model = models.create("mobilenet")
        assert parameters(model) == 4_231_976
        assert macs(model, 1, 3, 224, 224) == 568_740_352


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
def test_counts_of_variants(name: str, count: int, millions: float) -> None:
    with torch.device("meta"):
        model = models.create(name)
        assert parameters(model) == count
        assert round(macs(model, *models.spec(name).input_shape) / 1e6, 1) == millions


def test_conv_mobilenet_is_the_papers() -> None:
    # Table 4: 4866 million multiply-adds, 29.3 million parameters.
    with torch.device("meta"):
        model = models.create("mobilenet_standard")
        assert round(parameters(model) / 1e6, 1) == 29.3
        assert macs(model, 1, 3, 224, 224) == pytest.approx(4866e6, rel=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 9])
def test_layer_saves_what_the_formula_says(stride: int, size: int) -> None:
    layer = DepthwiseSeparable(12, 20, stride).eval()
    standard = layer.standard().eval()
    shape = (1, 12, size, size + 3)
    formula = layer.formula()
    assert formula.ratio == Fraction(1, 20) + Fraction(1, 9)
    assert formula.departures == ()
    assert Fraction(macs(layer, *shape), macs(standard, *shape)) == formula.ratio
    assert weights(layer) == formula.ratio * weights(standard)
    x = torch.randn(shape)
    with torch.no_grad():
        assert layer(x).shape == standard(x).shape
        assert layer(x).min() == standard(x).min() == 0  # both end in ReLU


def weights(layer: nn.Module) -> int:
    """Count those of convolutions: the paper leaves batch normalization out."""
    return sum(each.weight.numel() for each in layer.modules() if isinstance(each, nn.Conv2d))

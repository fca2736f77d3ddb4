"""Xception: its counts and flows, and the function and saving of a separable convolution."""

from __future__ import annotations

from fractions import Fraction

import torch
from counting import macs, parameters
from torch import nn

from tvm_eff import models
from tvm_eff.models.xception import Module, SeparableConvolution, Xception


def test_counts() -> None:
    with torch.device("meta"):
        model = models.create("xception")
        assert parameters(model) == 22_855_952
        assert macs(model, 1, 3, 299, 299) == 8_357_403_496


def test_flows_are_figure_5() -> None:
    with torch.device("meta"):
        model = Xception().eval()
        entry = model.entry(torch.zeros(1, 3, 299, 299))
        middle = model.middle(entry)
        exit_ = model.exit(middle)
    assert entry.shape == middle.shape == (1, 728, 19, 19)
    assert exit_.shape == (1, 2048, 10, 10)
    # "36 convolutional layers ... structured into 14 modules, all of which have linear
    # residual connections around them, except for the first and last modules" (section 3).
    separable = sum(isinstance(each, SeparableConvolution) for each in model.modules())
    plain = sum(type(each) is nn.Conv2d and each.kernel_size == (3, 3) for each in model.entry)
    assert separable + plain == 36
    assert sum(isinstance(each, Module) for each in model.modules()) == 14 - 2


def test_separable_convolution_is_linear() -> None:
    layer = SeparableConvolution(8, 8)
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer(-x), -layer(x))


def test_separable_convolution_saves_what_the_formula_says() -> None:
    layer = SeparableConvolution(12, 20)
    standard = layer.standard()
    shape = (1, 12, 7, 10)
    formula = layer.formula()
    assert formula.ratio == Fraction(1, 20) + Fraction(1, 9)
    assert formula.departures == ()
    assert Fraction(macs(layer, *shape), macs(standard, *shape)) == formula.ratio
    assert Fraction(parameters(layer), parameters(standard)) == formula.ratio
    with torch.no_grad():
        assert layer(torch.zeros(shape)).shape == standard(torch.zeros(shape)).shape


def test_activations_stay_of_order_one() -> None:
    model = models.create("xception")
    spreads = []
    for layer in model.modules():
        if isinstance(layer, Module):
            layer.register_forward_hook(lambda _, __, output: spreads.append(output.std().item()))
    with torch.no_grad():
        model(torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    assert len(spreads) == 12
    assert min(spreads) > 0.5 and max(spreads) < 10, spreads

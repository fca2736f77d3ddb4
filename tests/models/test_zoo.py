"""Properties of every model of the zoo: informative outputs, more expensive twins."""

from __future__ import annotations

import pytest
import torch
from counting import macs
from torch import nn

from tvm_eff import models
from tvm_eff.models import registry

TWINS = [name for name in models.names() if f"{name}_standard" in models.names()]


@pytest.mark.parametrize("name", models.names())
def test_every_model(name: str) -> None:
    spec = models.spec(name)
    side = min(spec.input_shape[2], 96)
    model = models.create(name)
    assert not model.training
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model(x)
        other = model(-x)
    assert output.shape == (1, 10 if "cifar" in name else 1000)
    # If the output did not depend on the input, validation would detect nothing.
    spread = output.max() - output.min()
    assert (other - output).abs().max() > 0.01 * spread
    assert 0.1 < spread < 1000
    # Nor would it detect wrong folding of an identity batch normalization.
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            values = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
            assert all(each is not None and each.std() > 0 for each in values)


@pytest.mark.parametrize("name", TWINS)
def test_standard_twin_has_the_same_shape_and_costs_more(name: str) -> None:
    spec, twin = models.spec(name), models.spec(f"{name}_standard")
    assert spec.input_shape == twin.input_shape
    assert (spec.has_width, spec.paper) == (twin.has_width, twin.paper)
    with torch.device("meta"):
        cheap, full = models.create(name), models.create(f"{name}_standard")
        assert macs(full, *twin.input_shape) > 2 * macs(cheap, *spec.input_shape)
    assert not any(isinstance(layer, models.FactorizedLayer) for layer in full.modules())


def test_every_family_has_a_twin() -> None:
    papers = {each.paper for each in registry.MODELS.values()}
    assert {models.spec(name).paper for name in TWINS} == papers
    assert len(papers) == 5

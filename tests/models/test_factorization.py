"""The standard twin of a network: every factorized layer replaced, nothing else touched."""

from __future__ import annotations

import torch
from torch import nn

from tvm_eff.models import FactorizedLayer, standard_twin
from tvm_eff.models.mobilenet import DepthwiseSeparable


class Twice(nn.Module):
    """Uses one layer in two places, one of them nested."""

    def __init__(self) -> None:
        super().__init__()
        self.first = DepthwiseSeparable(4, 4)
        self.rest = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ModuleDict({"again": self.first}))


def factorized_layers(model: nn.Module) -> int:
    return sum(isinstance(layer, FactorizedLayer) for layer in model.modules())


def test_layer_used_twice() -> None:
    model = Twice()
    twin = standard_twin(model)
    assert (factorized_layers(model), factorized_layers(twin)) == (1, 0)
    inner = twin.rest
    assert isinstance(inner, nn.Sequential) and isinstance(inner[1], nn.ModuleDict)
    assert inner[1]["again"] is twin.first


def test_other_layers_keep_their_weights() -> None:
    model = Twice()
    twin = standard_twin(model)
    name = "rest.0.weight"
    assert torch.equal(twin.state_dict()[name], model.state_dict()[name])
    assert twin.get_parameter(name) is not model.get_parameter(name)


def test_mode_is_kept() -> None:
    assert all(not layer.training for layer in standard_twin(Twice().eval()).modules())
    assert all(layer.training for layer in standard_twin(Twice()).modules())


def test_of_a_single_layer() -> None:
    layer = DepthwiseSeparable(4, 6, stride=2).eval()
    x = torch.zeros(1, 4, 9, 9)
    twin = standard_twin(layer)
    assert not isinstance(twin, FactorizedLayer)
    assert twin(x).shape == layer(x).shape

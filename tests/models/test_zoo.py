"""The zoo: exact counts, the same weights every time, errors that offer names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tvm_eff import models
from tvm_eff.errors import ModelError


def macs(model: nn.Module, size: int) -> int:
    """Count the multiply-accumulates of convolutions and dense layers in one inference."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        total += output.numel() * weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    return total


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'squeezenet11'; did you mean 'squeeze"):
        models.spec("squeezenet11")
    with pytest.raises(ModelError, match=r"'zzz'; known: .*squeezenet, squeezenet1_1"):
        models.create("zzz")


@pytest.mark.parametrize(
    ("name", "size", "parameters", "operations"),
    [
        ("squeezenet", 224, 1_248_424, 818_924_576),
        ("squeezenet", 227, 1_248_424, 832_667_936),
        ("squeezenet1_1", 224, 1_235_496, 349_151_936),
    ],
)
def test_counts_are_the_papers(name: str, size: int, parameters: int, operations: int) -> None:
    model = models.create(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert macs(model, size) == operations


@pytest.mark.parametrize("name", models.names())
def test_every_model(name: str) -> None:
    model, spec = models.create(name), models.spec(name)
    assert not model.training
    x = torch.randn(spec.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model(x)
    assert output.shape == (spec.input_shape[0], 1000)
    # Where the output does not depend on the input, validation would say nothing.
    with torch.no_grad():
        assert (model(-x) - output).abs().max() > 0.01 * (output.max() - output.min())


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

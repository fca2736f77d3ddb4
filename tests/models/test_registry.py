"""The registry of the zoo: rejected names and options, and variants."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tvm_eff import models
from tvm_eff.errors import ModelError


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'squeezenet11'; did you mean 'squeeze"):
        models.spec("squeezenet11")
    with pytest.raises(ModelError, match=r"'zzz'; known: .*squeezenet, squeezenet1_1"):
        models.create("zzz")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mobilenet_0.5_160_7", "width and resolution are written as in 'mobilenet_0.5_160'"),
        ("mobilenet_160_0.5", "written as in 'mobilenet_0.5_160'"),
        ("mobilenet_standard_2", "written as in 'mobilenet_standard_0.5_160'"),
        ("squeezenet1_1_0.5_", "a resolution is written as in 'squeezenet1_1_160'"),
        ("mobilenet_0.5_standard", "did you mean 'mobilenet_standard'"),
        ("squeezenet_0.5", "'squeezenet' has no width multiplier; these have: mobilenet"),
        ("mobilenet_9.5", "width multiplier of 9.5 is not a number from 0.01 to 4"),
        ("mobilenet_0.0", "width multiplier of 0.0 is not"),
        ("mobilenet_00", "resolution of 0 is not a whole number of at least 1"),
    ],
)
def test_variant_that_cannot_be(name: str, wanted: str) -> None:
    with pytest.raises(ModelError, match=wanted):
        models.spec(name)


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("mobilenet", {"clases": 10}, "takes no option 'clases'; did you mean 'classes'"),
        ("squeezenet", {"wdth": 0.5}, "takes no option 'wdth'; known: classes, resolution$"),
        ("mobilenet", {"classes": 0}, "number of classes of 0 is not a whole number"),
        ("mobilenet", {"classes": "10"}, "number of classes of '10' is not"),
        ("mobilenet", {"classes": 2.5}, "number of classes of 2.5 is not"),
        ("mobilenet", {"resolution": -1}, "resolution of -1 is not a whole number"),
        ("mobilenet", {"resolution": 160.5}, "resolution of 160.5 is not"),
        ("mobilenet", {"resolution": "160"}, "resolution of '160' is not"),
        ("mobilenet", {"width": float("nan")}, "width multiplier of nan is not a number from"),
        ("mobilenet", {"width": "0.5"}, "width multiplier of '0.5' is not"),
        ("mobilenet", {"width": True}, "width multiplier of True is not"),
        ("xception", {"width": 0.5}, "'xception' has no width multiplier"),
        ("mobilenet_0.5", {"width": 0.25}, "says its width or resolution, and so does an option"),
        ("mobilenet_160", {"resolution": 96}, "drop the option, or name 'mobilenet'"),
    ],
)
def test_option_that_cannot_be(name: str, options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ModelError, match=wanted):
        models.create(name, **options)


@pytest.mark.parametrize(("name", "resolution"), [("squeezenet", 8), ("xception", 4)])
def test_resolution_too_small_for_the_network(name: str, resolution: int) -> None:
    with pytest.raises(ModelError, match=f"{name}_?{resolution}.* x {resolution}"):
        models.trace(models.outline(name, resolution=resolution))


def test_width_and_resolution_by_name_or_option() -> None:
    by_name = models.load("mobilenet_0.5_160")
    by_option = models.load("mobilenet", width=0.5, resolution=160)
    assert by_name.name == by_option.name == "mobilenet_0.5_160"
    assert by_name.inputs == by_option.inputs
    assert by_name.inputs[0].shape == (1, 3, 160, 160)
    assert models.load("mobilenet", width=1, resolution=224).name == "mobilenet"
    assert models.load("mobilenet_0.5", resolution=160).name == "mobilenet_0.5_160"


@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_standard"])
@pytest.mark.parametrize("width", [2, 1 / 3, 0.01, 1])
@pytest.mark.parametrize("resolution", [None, 32, 224])
def test_name_of_a_variant_names_it(name: str, width: float, resolution: int | None) -> None:
    variant = models.spec(name, width, resolution)
    again = models.spec(variant.name)
    assert (again.name, again.input_shape) == (variant.name, variant.input_shape)
    with torch.device("meta"):
        assert shapes(again.build()) == shapes(variant.build())


def shapes(model: torch.nn.Module) -> list[torch.Size]:
    return [each.shape for each in model.parameters()]


def test_classes() -> None:
    assert models.create("mobilenet_0.25", classes=7)(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize("name", ["mobilenet_0.25_64", "squeezenet1_1", "factorized_topological"])
def test_outline_counts_like_the_network(name: str) -> None:
    outline, network = models.outline(name), models.load(name)
    assert (outline.name, outline.inputs) == (network.name, network.inputs)
    assert models.count(outline) == models.count(network)


def test_weights_follow_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = models.create("squeezenet1_1").state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = models.create("squeezenet1_1").state_dict()
    other = models.create("squeezenet1_1", seed=3).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])
    # The caller's random state does not change.
    assert torch.equal(torch.random.get_rng_state(), state)

"""Which pairs there are, and that both layers of a pair do the same job."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from study import DEFAULT_SHAPES, FAMILIES, QUICK_SHAPES, LayerShape
from study.grid import KINDS, Pair, channel_grid, network, pairs
from tvm_eff import models
from tvm_eff.errors import UsageError

SMALL = LayerShape(16, 16, 8)
ALL_SMALL = pairs(FAMILIES, [SMALL, LayerShape(8, 16, 8, stride=2), LayerShape(16, 16, 8, 5)])


def outputs_of(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """What both layers make of the same channels-last input."""
    x = torch.ones(1, pair.shape.size, pair.shape.size, pair.shape.inputs)
    made = [network(each, pair.shape, "x").module for each in pair.layers()]
    with torch.no_grad():
        return made[0](x), made[1](x)


def test_unknown_family() -> None:
    with pytest.raises(UsageError, match="unknown family 'mobilnet'; did you mean 'mobilenet'"):
        pairs(["squeezenet", "mobilnet"], [SMALL])


def test_no_layer_of_such_a_shape() -> None:
    with pytest.raises(UsageError, match="no layer of mobilenet, xception has the shape 16-16 5x5"):
        pairs(["mobilenet", "xception"], [LayerShape(16, 16, 8, 5)])


def test_every_kind_of_every_family_is_in_both_grids() -> None:
    assert FAMILIES == ("squeezenet", "mobilenet", "xception", "flattened", "factorized")
    for shapes in (DEFAULT_SHAPES, QUICK_SHAPES):
        assert {pair.kind for pair in pairs(FAMILIES, shapes)} == set(KINDS)


def test_default_grid_varies_everything() -> None:
    for what in ("inputs", "outputs", "size", "kernel", "stride"):
        assert len({getattr(shape, what) for shape in DEFAULT_SHAPES}) > 1


def test_a_shape_named_twice_is_measured_once() -> None:
    assert len(pairs(["xception"], [SMALL, SMALL])) == 1


@pytest.mark.parametrize("pair", ALL_SMALL, ids=str)
def test_layers_of_a_pair_have_the_shape_asked_for(pair: Pair) -> None:
    factorized, standard = outputs_of(pair)
    size = pair.shape.size // pair.shape.stride
    assert factorized.shape == standard.shape == (1, size, size, pair.shape.outputs)


@pytest.mark.parametrize("pair", ALL_SMALL, ids=str)
def test_weights_are_always_the_same_and_do_something(pair: Pair) -> None:
    state = torch.get_rng_state()
    first, again = outputs_of(pair), outputs_of(pair)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
        assert one.std() > 0


@pytest.mark.parametrize("pair", [p for p in ALL_SMALL if p.shape.keeps], ids=str)
def test_formula_is_the_counted_ratio(pair: Pair) -> None:
    factorized, standard = pair.layers()
    macs = [models.count(network(layer, pair.shape, "x"))[1] for layer in (factorized, standard)]
    assert Fraction(*macs) == factorized.formula().ratio < 1


@pytest.mark.parametrize(
    ("channels", "dimensions", "grid"),
    [
        (64, 2, (8, 8)),
        (128, 2, (8, 16)),
        (48, 2, (6, 8)),
        (7, 2, (1, 7)),
        (64, 3, (4, 4, 4)),
        (512, 3, (8, 8, 8)),
        (128, 3, (4, 4, 8)),
    ],
)
def test_grid_of_channels(channels: int, dimensions: int, grid: tuple[int, ...]) -> None:
    assert channel_grid(channels, dimensions) == grid


def test_no_neighbourhood_where_channels_make_no_grid() -> None:
    layers = {str(pair.kind.name) for pair in pairs(["factorized"], [LayerShape(7, 7, 8)])}
    assert layers == {"intra-channel", "spatial bottleneck"}

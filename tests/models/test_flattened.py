"""Flattened networks: the function of a stage, its cost, and the paper's ratios."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from counting import macs, parameters
from torch import nn

from tvm_eff.errors import ModelError
from tvm_eff.models.flattened import (
    FlattenedLayer,
    FlattenedStage,
    flattened,
    flattened_cifar,
    flattened_cifar_standard,
    flattened_standard,
)


def test_a_layer_refuses_kernels_that_cannot_keep_the_size() -> None:
    with pytest.raises(ModelError, match=r"even kernel \(3, 4\).*use odd sizes"):
        FlattenedLayer(8, 8, (3, 4))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "rank"),
    [
        ((3, 3), (1, 1), "same", (1, 1), 1),
        ((5, 3), (2, 1), (2, 0), (1, 1), 1),
        ((2, 4), (1, 3), (1, 2), (2, 1), 3),
        ((1, 7), (1, 1), "valid", (1, 2), 2),
    ],
)
def test_a_stage_is_a_standard_convolution_of_products(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    rank: int,
) -> None:
    torch.manual_seed(0)
    stage = FlattenedStage(
        6, 10, kernel, stride, padding, dilation, rank, inner_biases=False
    ).double()
    lateral, vertical, horizontal = (
        each.weight.reshape(10, rank, -1)
        for each in (stage.lateral, stage.vertical, stage.horizontal)
    )
    weight = torch.einsum("nrc,nry,nrx->ncyx", lateral, vertical, horizontal)
    x = torch.randn(2, 6, 17, 19, dtype=torch.float64)
    expected = nn.functional.conv2d(x, weight, stage.horizontal.bias, stride, padding, dilation)
    torch.testing.assert_close(stage(x), expected, rtol=0, atol=1e-12)
    assert stage.standard()(x.float()).shape == expected.shape


def test_a_layer_is_two_stages_with_biases_and_nothing_else() -> None:
    layer = FlattenedLayer(4, 6, (3, 5))
    convolutions = [each for each in layer.modules() if isinstance(each, nn.Conv2d)]
    assert [each.kernel_size for each in convolutions] == [(1, 1), (3, 1), (1, 5)] * 2
    assert [each.in_channels for each in convolutions] == [4, 6, 6, 6, 6, 6]
    assert all(each.bias is not None for each in convolutions)
    x, y = torch.randn(2, 1, 4, 9, 8)
    zero = torch.zeros_like(x)
    # Affine, so no non-linearity is inside.
    torch.testing.assert_close(
        layer(x + y) + layer(zero), layer(x) + layer(y), rtol=1e-4, atol=1e-4
    )
    assert layer(x[None, 0]).shape == (1, 6, 9, 8)


@pytest.mark.parametrize("seed", range(6))
def test_formulas_are_exact(seed: int) -> None:
    draw = random.Random(seed)
    m, n = draw.randint(1, 40), draw.randint(1, 40)
    kernel = draw.choice((1, 3, 5, 7)), draw.choice((1, 3, 5, 7))
    shape = (draw.randint(1, 2), m, draw.randint(1, 12), draw.randint(1, 12))
    for layer in (FlattenedStage(m, n, kernel), FlattenedLayer(m, n, kernel)):
        formula, standard = layer.formula(), layer.standard()
        assert formula.departures == ()
        assert Fraction(macs(layer, *shape), macs(standard, *shape)) == formula.ratio
        assert Fraction(parameters(layer, False), parameters(standard, False)) == formula.ratio


def test_formula_of_a_stage_by_hand() -> None:
    # (3 x 8 + 5 x 8 + 4 x 8) / (3 x 5 x 4 x 8)
    assert FlattenedStage(4, 8, (5, 3)).formula().ratio == Fraction(96, 480)


@pytest.mark.parametrize(
    ("stride", "padding", "said"),
    [((2, 2), (1, 1), "stride 2x2"), ((1, 1), (0, 0), "borders"), ((1, 1), "valid", "borders")],
)
def test_where_the_formula_does_not_hold_it_says_so(
    stride: tuple[int, int], padding: tuple[int, int] | str, said: str
) -> None:
    stage = FlattenedStage(8, 8, (3, 3), stride, padding)
    formula, shape = stage.formula(), (1, 8, 12, 12)
    assert any(each.startswith(said) for each in formula.departures)
    assert Fraction(macs(stage, *shape), macs(stage.standard(), *shape)) != formula.ratio


def stages(m: int, n: int) -> int:
    """Weights of the two stages of a 5x5 layer: M N + N N, and four times 5 for each output."""
    return m * n + n * n + 4 * 5 * n


def test_counts_of_the_cifar_network() -> None:
    dense = 2304 * 2048 + 2048 * 2048 + 2048 * 10
    weights = 75 * 96 + stages(96, 128) + stages(128, 256) + dense
    biases = 96 + 6 * 128 + 6 * 256 + 2048 + 2048 + 10
    assert parameters(flattened_cifar()) == weights + biases
    operations = 32**2 * 75 * 96 + 15**2 * stages(96, 128) + 7**2 * stages(128, 256) + dense
    assert macs(flattened_cifar(), 1, 3, 32, 32) == operations
    standard = 75 * 96 + 25 * 96 * 128 + 25 * 128 * 256 + dense
    assert parameters(flattened_cifar_standard(), biases=False) == standard
    standard = 32**2 * 75 * 96 + 15**2 * 25 * 96 * 128 + 7**2 * 25 * 128 * 256 + dense
    assert macs(flattened_cifar_standard(), 1, 3, 32, 32) == standard


def test_the_cifar_layers_need_8_to_10_times_fewer_parameters_as_the_paper_says() -> None:
    layers = [each for each in flattened_cifar().modules() if isinstance(each, FlattenedLayer)]
    fewer = [float(1 / each.formula().ratio) for each in layers]
    assert [round(each) for each in fewer] == [10, 8]


def test_counts_of_the_large_network() -> None:
    layers = (
        (112, 32, 64),
        (56, 64, 128),
        (28, 128, 256),
        (28, 256, 256),
        (14, 256, 512),
        (7, 512, 512),
    )
    weights = 75 * 32 + sum(stages(m, n) for _, m, n in layers) + 512 * 1000
    biases = 32 + sum(6 * n for *_, n in layers) + 1000
    assert parameters(flattened()) == weights + biases == 1_737_960
    ends = 112**2 * 75 * 32 + 512 * 1000
    operations = ends + sum(size**2 * stages(m, n) for size, m, n in layers)
    assert macs(flattened(), 1, 3, 224, 224) == operations == 501_970_944
    standard = ends + sum(size**2 * 25 * m * n for size, m, n in layers)
    assert macs(flattened_standard(), 1, 3, 224, 224) == standard


@pytest.mark.parametrize("twin", [flattened_standard, flattened_cifar_standard])
def test_a_twin_has_no_flattened_layer(twin: Callable[[], nn.Module]) -> None:
    assert not any(isinstance(each, FlattenedLayer) for each in twin().modules())

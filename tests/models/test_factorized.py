"""Factorized networks: what the layers compute, what they cost, and the network's size."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from fractions import Fraction
from math import prod

import pytest
import torch
from counting import macs, parameters
from torch import nn

from tvm_eff.errors import ModelError
from tvm_eff.models.factorization import FactorizedLayer, standard_twin
from tvm_eff.models.factorized import (
    IntraChannelLayer,
    Residual,
    factorized,
    factorized_bottleneck,
    factorized_standard,
    factorized_topological,
    factorized_topological_3d,
)
from tvm_eff.models.spatial_bottleneck import SpatialBottleneck
from tvm_eff.models.topology import TopologicalLayer, TopologicalProjection


@pytest.mark.parametrize(
    ("grid", "window", "said"),
    [
        ((16,), (4,), "two or three dimensions"),
        ((4, 4), (2, 2, 2), "two or three dimensions"),
        ((4, 4), (2, 5), r"\(2, 5\) does not fit into a grid of channels \(4, 4\)"),
        ((4, 4), (0, 2), "does not fit"),
    ],
)
def test_windows_that_do_not_fit_are_refused(
    grid: tuple[int, ...], window: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        TopologicalProjection(grid, window)


def test_as_many_bases_as_places_are_a_standard_convolution() -> None:
    torch.manual_seed(0)
    layer = IntraChannelLayer(5, 7, 3, stride=2, bases=9)
    weight = torch.randn(7, 5, 3, 3)
    with torch.no_grad():
        # Basis b of each channel selects kernel position b, which the projection weights.
        layer.convolve.weight.copy_(torch.eye(9).reshape(9, 1, 3, 3).repeat(5, 1, 1, 1))
        layer.project.weight.copy_(weight.reshape(7, 45, 1, 1))
    x = torch.randn(2, 5, 9, 10)
    expected = nn.functional.conv2d(x, weight, stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("grid", "window"),
    [
        ((4, 6), (2, 3)),
        ((4, 6), (3, 6)),
        ((4, 6), (4, 1)),
        ((3, 4, 2), (2, 3, 1)),
        ((2, 3, 4), (1, 3, 4)),
        ((2, 3, 4), (2, 3, 4)),
    ],
)
def test_a_projection_is_a_dense_one_without_the_rest(
    grid: tuple[int, ...], window: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    projection, channels = TopologicalProjection(grid, window), prod(grid)
    positions = list(itertools.product(*map(range, grid)))
    weight = torch.zeros(channels, channels)
    for row, corner in enumerate(positions):
        # Positions at most a window away, forwards, with wrap-around.
        reads = [
            all((at - start) % size < part for at, start, part, size in zip(*each, strict=True))
            for each in ((position, corner, window, grid) for position in positions)
        ]
        assert sum(reads) == prod(window)
        weight[row, torch.tensor(reads)] = 1
    # One input channel at a time, so that each connection is visible in the output.
    x = torch.eye(channels)[:, :, None, None]
    dense = projection(x)[:, :, 0, 0].T
    assert torch.equal(dense != 0, weight != 0)
    assert torch.equal(dense[dense != 0].sort()[0], projection.project.weight.flatten().sort()[0])
    assert macs(projection, 1, channels, 5, 4) == 20 * channels * prod(window)


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (5, 4)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (5, 3), (3, 1)])
def test_a_bottleneck_goes_down_and_comes_back(
    kernel: int, stride: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = SpatialBottleneck(4, 6, kernel, stride).double()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    padding = (kernel - 1) // 2
    low = nn.functional.conv2d(x, layer.convolve.weight, None, stride, padding, groups=4)
    low = torch.einsum("nc,bcyx->bnyx", layer.project.weight[:, :, 0, 0], low)
    expected = torch.zeros(2, 6, size[0] + 20, size[1] + 20, dtype=torch.float64)
    for (y, column), (down, right) in itertools.product(
        itertools.product(range(low.shape[2]), range(low.shape[3])),
        itertools.product(range(kernel), repeat=2),
    ):
        spread = low[:, :, y, column] * layer.restore.weight[:, 0, down, right]
        top, left = 10 + y * stride + down - padding, 10 + column * stride + right - padding
        expected[:, :, top, left] += spread
    expected = expected[:, :, 10 : 10 + size[0], 10 : 10 + size[1]]
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    assert layer.standard()(x.float()).shape == expected.shape


@pytest.mark.parametrize("seed", range(6))
def test_formulas_are_exact(seed: int) -> None:
    draw = random.Random(seed)
    m, n, kernel = draw.randint(1, 30), draw.randint(1, 30), draw.choice((1, 2, 3, 5))
    grid = tuple(draw.randint(1, 5) for _ in range(draw.choice((2, 3))))
    window = tuple(draw.randint(1, size) for size in grid)
    stride = draw.randint(1, 3)
    height, width = (stride * draw.randint(2, 5) for _ in range(2))
    layers: list[tuple[FactorizedLayer, int]] = [
        (IntraChannelLayer(m, n, kernel, stride, draw.randint(1, 4)), m),
        (TopologicalLayer(grid, window, kernel), prod(grid)),
        (SpatialBottleneck(m, n, draw.choice((3, 5)), stride), m),
    ]
    for layer, channels in layers:
        formula, standard, shape = layer.formula(), layer.standard(), (1, channels, height, width)
        assert Fraction(macs(layer, *shape), macs(standard, *shape)) == formula.ratio
        share = Fraction(parameters(layer), parameters(standard))
        assert (share == formula.ratio) == (formula.departures == ())
        assert layer(torch.zeros(shape)).shape == standard(torch.zeros(shape)).shape


def test_formulas_by_hand() -> None:
    # (9 + 16)/(9 x 16); twice that; (9 + 2 x 3)/(9 x 24); (9 x 4 + 4 x 8 + 9 x 8)/(4 x 9 x 32)
    assert IntraChannelLayer(4, 16).formula().ratio == Fraction(25, 144)
    assert IntraChannelLayer(4, 16, bases=2).formula().ratio == Fraction(50, 144)
    assert TopologicalLayer((4, 6), (2, 3)).formula().ratio == Fraction(15, 216)
    assert SpatialBottleneck(4, 8).formula().ratio == Fraction(140, 1152)
    assert SpatialBottleneck(4, 8).formula().departures[0].startswith("parameters: 4 times")


def test_a_residual_connection_goes_around_layer_and_normalization() -> None:
    x = torch.randn(1, 8, 5, 5)
    residual = Residual(IntraChannelLayer(8, 8), 8, 8).eval()
    nn.init.zeros_(residual.normalize.weight)
    assert torch.equal(residual(x), x.relu())
    plain = Residual(IntraChannelLayer(8, 4), 8, 4).eval()
    nn.init.zeros_(plain.normalize.weight)
    assert not plain(x).any()


# Size, channels, layers; the first of all but the first stage doubles the channels.
STAGES = ((56, 64, 6), (28, 128, 8), (14, 256, 12), (7, 512, 6))
ENDS = 112**2 * 147 * 64 + 512 * 1000


def operations(layer: Callable[[int, int], int], doubling: Callable[[int], int]) -> int:
    """Add up the stages, given a layer's cost per output position."""
    return ENDS + sum(
        size**2 * ((layers - at) * layer(size, n) + at * doubling(n))
        for at, (size, n, layers) in zip((0, 1, 1, 1), STAGES, strict=True)
    )


def weights(layer: Callable[[int, int], int], doubling: Callable[[int], int]) -> int:
    """Add up the stages, given a layer's weights; normalization has two per channel."""
    return (
        (147 + 2) * 64
        + sum(
            (layers - at) * layer(size, n) + at * doubling(n) + layers * 2 * n
            for at, (size, n, layers) in zip((0, 1, 1, 1), STAGES, strict=True)
        )
        + (512 + 1) * 1000
    )


def intra_channel(size: int, n: int) -> int:
    return n * (9 + n)


def doubling(n: int) -> int:
    return n // 2 * (9 + n)


def test_counts_of_the_network() -> None:
    found = operations(intra_channel, doubling)
    assert macs(factorized(), 1, 3, 224, 224) == found == 534_347_008
    assert parameters(factorized()) == weights(intra_channel, doubling) == 2_944_488
    # The paper: 7.32 times less computation than ResNet-34's 3.6 billion.
    assert found == pytest.approx(3.6e9 / 7.32, rel=0.1)


def test_the_standard_twin_is_resnet_34() -> None:
    def layer(size: int, n: int) -> int:
        return 9 * n * n

    def wider(n: int) -> int:
        return 9 * n * n // 2

    found = operations(layer, wider)
    # He et al., table 1: 3.6 billion, without the projections of its shortcuts.
    assert found == pytest.approx(3.6e9, rel=0.02)
    assert macs(factorized_standard(), 1, 3, 224, 224) == found
    assert parameters(factorized_standard()) == weights(layer, wider)


@pytest.mark.parametrize(
    ("variant", "share"), [(factorized_topological, 4), (factorized_topological_3d, 8)]
)
def test_counts_of_the_topological_networks(variant: Callable[[], nn.Module], share: int) -> None:
    def layer(size: int, n: int) -> int:
        return n * (9 + n // share)

    assert macs(variant(), 1, 3, 224, 224) == operations(layer, doubling)
    assert parameters(variant()) == weights(layer, doubling)


def test_counts_of_the_bottleneck_network() -> None:
    def low(size: int, n: int) -> int:
        return intra_channel(size, n) if size == 7 else n * (9 + n + 9)

    def layer(size: int, n: int) -> int:
        # A quarter of the output's positions.
        return low(size, n) if size == 7 else low(size, n) // 4

    assert macs(factorized_bottleneck(), 1, 3, 224, 224) == operations(layer, doubling)
    assert parameters(factorized_bottleneck()) == weights(low, doubling)


def test_all_variants_have_the_same_twin() -> None:
    expected = {name: value.shape for name, value in factorized_standard().state_dict().items()}
    for variant in (factorized_topological, factorized_bottleneck):
        twin = standard_twin(variant())
        assert {name: value.shape for name, value in twin.state_dict().items()} == expected

"""Flattening a trained convolution: exact for rank one, otherwise better with the rank."""

from __future__ import annotations

import pytest
import tensorly
import torch
from torch import nn

from tvm_eff.errors import ModelError
from tvm_eff.models.flatten import flatten_conv


def trained(*arguments: object, **options: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("convolution", "said"),
    [
        (trained(8, 8, 3, groups=2), "2 groups.*groups=1"),
        (trained(8, 8, 3, groups=8), "8 groups"),
        (trained(8, 8, 3, padding=1, padding_mode="reflect"), "pads with 'reflect'"),
        (nn.ConvTranspose2d(8, 8, 3), "not ConvTranspose2d"),
        (nn.Conv1d(8, 8, 3), "not Conv1d"),
        (nn.Linear(8, 8), "not Linear"),
    ],
)
def test_what_cannot_be_flattened_is_refused(convolution: nn.Conv2d, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        flatten_conv(convolution)


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(rank: int) -> None:
    with pytest.raises(ModelError, match=f"rank of {rank}.*use 1 or more"):
        flatten_conv(trained(3, 4, 3), rank)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    convolution = trained(3, 4, 3)
    with torch.no_grad():
        convolution.weight[1, 2, 0, 0] = value
    with pytest.raises(ModelError, match="NaN or infinity"):
        flatten_conv(convolution)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": 3, "padding": 1, "bias": False},
        {"kernel_size": (3, 5), "stride": (2, 1), "padding": (2, 1), "dilation": (1, 2)},
        {"kernel_size": (2, 4), "padding": "same"},
        {"kernel_size": (1, 7), "padding": "valid", "stride": 3},
        {"kernel_size": 1},
    ],
    ids=str,
)
def test_filters_of_rank_one_are_reproduced(
    options: dict[str, object], dtype: torch.dtype, rounding: float
) -> None:
    convolution = trained(7, 12, **options).to(dtype)
    height, width = convolution.kernel_size
    directions = [torch.randn(12, size, dtype=dtype) for size in (7, height, width)]
    with torch.no_grad():
        convolution.weight.copy_(torch.einsum("nc,ny,nx->ncyx", *directions))
        convolution.weight[3] = 0
    found = flatten_conv(convolution)
    assert found.error < rounding
    x = torch.randn(2, 7, 17, 19, dtype=dtype)
    expected = convolution(x)
    assert (found.module(x) - expected).abs().max() < rounding * expected.abs().max()


def test_the_error_is_that_of_the_weights() -> None:
    # A 3x3 filter of one channel is a matrix: the best of each rank is its decomposition
    # into singular values, diag(3, 2, 1) here.
    convolution = trained(1, 1, 3)
    with torch.no_grad():
        convolution.weight[0, 0] = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    errors = [flatten_conv(convolution, rank).error for rank in (1, 2, 3)]
    assert errors == pytest.approx([(5 / 14) ** 0.5, (1 / 14) ** 0.5, 0], abs=1e-6)


def test_the_error_never_grows_with_the_rank() -> None:
    convolution = trained(12, 6, 3)
    errors = [flatten_conv(convolution, rank).error for rank in range(1, 7)]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < 0.5 < errors[0] < 1


def test_the_result_is_the_same_each_time_and_disturbs_nobody() -> None:
    convolution = trained(12, 6, 3).eval()
    before, backend = convolution.weight.clone(), tensorly.get_backend()
    state = torch.random.get_rng_state()
    first, second = flatten_conv(convolution, 2), flatten_conv(convolution, 2)
    assert first.error == second.error
    for one, other in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(convolution.weight, before)
    assert tensorly.get_backend() == backend
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not first.module.training


def test_weights_of_zero_stay_zero() -> None:
    convolution = trained(3, 4, 3, bias=False)
    nn.init.zeros_(convolution.weight)
    found = flatten_conv(convolution, 2)
    assert found.error == 0
    assert not found.module(torch.ones(1, 3, 5, 5)).any()

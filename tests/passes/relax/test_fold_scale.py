"""Batch norm is folded into the preceding weights where their output has no other use."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from kernels import lowered
from network_families import InvertedResidual
from network_modules import randomize
from networks import made
from torch import nn

from tvm_eff import targets
from tvm_eff.passes import RelaxNetwork


def kernels(network: RelaxNetwork) -> list[str]:
    """Return the kernels that ``main`` calls, without their numbers."""
    called = re.findall(r"call_tir\((\w+)", network.mod["main"].script())
    return [re.sub(r"\d+", "", name).removeprefix("fused_") for name in called]


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Return the folded weight (channels last) and bias, from the definition."""
    assert norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = convolution.weight * scale.reshape(-1, 1, 1, 1)
        bias = torch.zeros_like(scale) if convolution.bias is None else convolution.bias
        shift = (bias - norm.running_mean) * scale + norm.bias
    return weight.permute(0, 2, 3, 1).numpy(), shift.numpy()


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_weights_and_bias_are_folded(groups: int, bias: bool) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(8, 16 if groups < 8 else 8, 3, groups=groups, bias=bias)
    norm = nn.BatchNorm2d(convolution.out_channels)
    model = randomize(nn.Sequential(convolution, norm))
    network = lowered(model, (1, 8, 9, 9))

    assert kernels(network) == ["transpose", "convd_add", "transpose"]
    weight, shift = folded(convolution, norm)
    np.testing.assert_allclose(network.params[0], weight, rtol=1e-6)
    np.testing.assert_allclose(network.params[1].reshape(-1), shift, rtol=1e-5, atol=1e-6)


def test_inverted_residual_keeps_one_addition_a_layer() -> None:
    model = randomize(nn.Sequential(nn.Conv2d(3, 8, 1), InvertedResidual(8, 8)))
    # On a board, where the last two convolutions are separate kernels.
    network = lowered(model, (1, 3, 8, 8), target=targets.load("rasp4"))
    assert kernels(network) == [
        "transpose",
        "convd_add",
        "convd_add_tir_clip",
        "convd_add_tir_clip",
        "convd_add_add",
        "transpose",
    ]


def test_output_that_is_read_elsewhere_keeps_its_weights() -> None:
    model, (x,) = made("shared_output")
    network = lowered(model, x.shape)
    assert kernels(network)[1] == "convd_add_multiply_add_relu_add"
    weight = model.get_parameter("convolution.weight").detach().permute(0, 2, 3, 1)
    np.testing.assert_array_equal(network.params[0], weight.numpy())


def test_convolution_that_is_used_twice_is_folded_where_its_norm_is() -> None:
    model, (x,) = made("shared_convolution")
    network = lowered(model, x.shape)
    weight = model.get_parameter("convolution.weight").detach().permute(0, 2, 3, 1).numpy()
    kept = [p for p in network.params if p.shape == weight.shape]
    assert sum(np.array_equal(p, weight) for p in kept) == 1
    assert len(kept) == 2


def test_norm_before_a_convolution_is_not_folded() -> None:
    # The convolution pads the normalized input with zeros; folding would normalize them.
    convolution = nn.Conv2d(8, 4, 3, padding=1)
    model = randomize(nn.Sequential(nn.BatchNorm2d(8), convolution))
    network = lowered(model, (1, 8, 9, 9))
    assert kernels(network) == ["multiply_add_transpose", "convd_add", "transpose"]


def test_dense_layer() -> None:
    model = randomize(nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU()))
    assert kernels(lowered(model, (3, 8))) == ["matmul_add_relu"]


@pytest.mark.parametrize("name", ["transposed_batch_norm", "one_dimension", "three_dimensions"])
def test_other_convolutions(name: str) -> None:
    model, inputs = made(name)
    assert "multiply" not in " ".join(kernels(lowered(model, *(x.shape for x in inputs))))


def test_nothing_is_prepared_at_run_time() -> None:
    for name in ("mobilenet_v2_odd_input", "batch_norms"):
        model, inputs = made(name)
        network = lowered(model, *(x.shape for x in inputs))
        called = kernels(network)
        assert not [each for each in called if "sqrt" in each or "divide" in each], name

"""A quantized network is computed in integers, bit for bit as its definition says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from network_families import mobilenet_v3, resnet, shufflenet
from network_modules import randomize
from quantized_networks import Added, Gated, Joined, between, imported, quantized, traced
from torch import nn

from tvm_eff import models
from tvm_eff.errors import UsageError
from tvm_eff.frontend import import_program
from tvm_eff.passes import lower
from tvm_eff.quantize import Activations
from tvm_eff.targets import load
from tvm_eff.tensors import TOLERANCE, relative_error

SHAPE = (1, 8, 11, 9)


class ToFew(nn.Module):
    """Leaves three channels, as an image has: they are padded for dot products."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :3]


OPERATORS: dict[str, Callable[[], nn.Module]] = {
    "pointwise": lambda: between(),
    "padded": lambda: between(nn.Conv2d(16, 16, 3, padding=1)),
    "unequally_padded": lambda: between(nn.Conv2d(16, 16, (3, 5), padding=(0, 2))),
    "same_padding": lambda: between(nn.Conv2d(16, 16, 3, padding="same")),
    "strided": lambda: between(nn.Conv2d(16, 32, 3, 2, 1), outputs=32),
    "dilated": lambda: between(nn.Conv2d(16, 16, 3, padding=2, dilation=2)),
    "grouped": lambda: between(nn.Conv2d(16, 16, 3, padding=1, groups=4)),
    "depthwise": lambda: between(nn.Conv2d(16, 16, 3, padding=1, groups=16)),
    "depthwise_strided": lambda: between(nn.Conv2d(16, 16, 5, 2, 2, groups=16)),
    "depthwise_multiplier": lambda: between(nn.Conv2d(16, 32, 3, groups=16), outputs=32),
    "without_bias": lambda: between(nn.Conv2d(16, 16, 3, bias=False)),
    "odd_channels": lambda: between(nn.Conv2d(16, 13, 3), outputs=13),
    "batch_norm_relu6": lambda: between(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU6()),
    "relu": lambda: between(nn.ReLU()),
    "clipped": lambda: between(nn.Hardtanh(-0.3, 0.4)),
    "relu_alone": lambda: between(nn.MaxPool2d(2), nn.ReLU()),
    "maximum": lambda: between(nn.MaxPool2d(3, 2, 1)),
    "average": lambda: between(nn.AvgPool2d(2)),
    "adaptive_average": lambda: between(nn.AdaptiveAvgPool2d((11, 3))),
    "global_average": lambda: between(nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    "dense": lambda: nn.Sequential(
        nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(252, 20), nn.ReLU(), nn.Linear(20, 7)
    ),
    "dense_without_bias": lambda: nn.Sequential(
        nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(252, 20, bias=False)
    ),
    "added": Added,
    "joined": Joined,
    "few_channels": lambda: nn.Sequential(ToFew(), nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU()),
    "few_channels_unpadded": lambda: nn.Sequential(ToFew(), nn.Conv2d(3, 16, 3), nn.ReLU()),
}


# What x86 takes, and of what Arm takes each kind of operator.
WITH_A_SIGN = ("padded", "depthwise", "relu", "average", "dense", "added", "joined", "few_channels")


@pytest.mark.parametrize(
    ("name", "activations"),
    [*((name, "uint8") for name in OPERATORS), *((name, "int8") for name in WITH_A_SIGN)],
)
def test_operator_is_exact(name: str, activations: Activations) -> None:
    torch.manual_seed(1)
    case = quantized(randomize(OPERATORS[name]()), SHAPE, activations=activations)

    assert case.in_float32 == ()
    assert case.weights() == {"int8"}
    for seed in range(3):
        inputs = case.inputs(seed)
        assert case.quantized.is_exact(inputs)
        np.testing.assert_array_equal(case.run(inputs)[0], case.quantized.run(inputs)[0])


class LeastWeight(nn.Module):
    """Weights of -128, which other quantizers make."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((8, 8, 1, 1), -128, dtype=torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        library = torch.ops.quantized_decomposed
        data = (2.0**-6, 3, -128, 127, torch.int8)
        x = library.dequantize_per_tensor(library.quantize_per_tensor(x, *data), *data)
        weight = library.dequantize_per_tensor(self.weight, 0.5, 0, -128, 127, torch.int8)
        return nn.functional.conv2d(x, weight)


def test_two_products_of_weights_fit_16_bits() -> None:
    """Arm adds pairs of products in 16 bits: twice -128 * -128 would overflow."""
    original = traced(LeastWeight(), SHAPE)
    case = imported(original, original)
    assert case.weights() == {"int16"}
    (x,) = case.inputs(0)
    for each in (x, np.full_like(x, -9)):
        np.testing.assert_array_equal(case.run([each])[0], case.quantized.run([each])[0])


class InBytes(nn.Module):
    """Bytes of a dtype and a zero point, in steps of one."""

    def __init__(self, dtype: torch.dtype, zero: int) -> None:
        super().__init__()
        info = torch.iinfo(dtype)
        self.form = (1.0, zero, info.min, info.max, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        library = torch.ops.quantized_decomposed
        return library.dequantize_per_tensor(library.quantize_per_tensor(x, *self.form), *self.form)


@pytest.mark.parametrize("zero", [-128, -3, 0, 5])
def test_halves_become_even(zero: int) -> None:
    """Whatever the zero point, and what does not fit is limited."""
    original = traced(InBytes(torch.int8, zero), (1, 2800))
    x = np.arange(-350, 350, 0.25, dtype="float32")[None]
    case = imported(original, original)
    np.testing.assert_array_equal(case.run([x])[0], np.clip(np.rint(x), -128 - zero, 127 - zero))


def test_ties_alone_differ_from_pytorch() -> None:
    """One quantized layer: PyTorch's float32 sums make another integer of a few values."""
    torch.manual_seed(2)
    case = quantized(randomize(between(nn.Conv2d(16, 16, 3), nn.ReLU())), (1, 8, 60, 60))
    differing, count = 0, 0
    for seed in range(4):
        inputs = case.inputs(seed)
        exact, float32 = case.run(inputs)[0], case.quantized.run_in_float32(inputs)[0]
        off = np.abs(exact - float32) > TOLERANCE * np.ptp(float32)
        differing, count = differing + int(off.sum()), count + off.size
        assert relative_error(exact, float32) < 0.02
    # None of 53824 on the machine that this was written on.
    assert differing < count / 500


def reference(
    x: np.ndarray, weight: np.ndarray, start: np.ndarray, factor: np.ndarray, zero: int, least: int
) -> np.ndarray:
    """A pointwise layer from bytes to bytes, from the definition."""
    sums = np.einsum("nchw,oc->nohw", x.astype("int64"), weight.astype("int64"))
    whole = (sums + start[:, None, None]).astype("float32")
    rounded = np.rint(whole * factor.astype("float32")[:, None, None])
    return np.clip(rounded + np.float32(zero), least, 255).astype("uint8")


def test_arithmetic_is_as_defined() -> None:
    """Sums start from the bias and the zero points; one scale a channel; half to even; limits."""
    torch.manual_seed(3)
    # The second layer multiplies by one and shows the bytes behind the first.
    first, last = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 1, bias=False)
    model = nn.Sequential(first, nn.ReLU(), last)
    assert first.bias is not None
    with torch.no_grad():
        last.weight.copy_(torch.eye(16)[:, :, None, None])
        weight, bias = first.weight.numpy()[:, :, 0, 0], first.bias.numpy()
    case = quantized(model, SHAPE)
    assert case.quantized.core is not None
    named = [(n.args, str(n.target)) for n in case.quantized.core.graph.nodes]
    (_, s0, z0, *_), (_, s1, z1, *_) = (args for args, name in named if ".quantize_per_t" in name)
    inputs = case.inputs(0)
    x = np.clip(np.rint(inputs[0] * np.float32(1 / s0)) + z0, 0, 255).astype("uint8")
    scale = np.abs(weight).max(axis=1) / np.float32(127)
    bytes_of = np.clip(np.rint(weight * (np.float32(1) / scale)[:, None]), -127, 127)
    step = float(np.float32(s0)) * scale.astype("float64")
    start = np.rint(bias / step).astype("int64") - z0 * bytes_of.sum(axis=1).astype("int64")

    expected = reference(x, bytes_of, start, step / float(np.float32(s1)), z1, z1)
    assert len(np.unique(expected)) > 50
    shown = np.rint(case.run(inputs)[0] / np.float32(s1)) + z1
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize(("make", "activations"), [(resnet, "uint8"), (shufflenet, "int8")])
def test_network_is_exact(make: Callable[[], nn.Module], activations: Activations) -> None:
    torch.manual_seed(4)
    case = quantized(make(), (1, 3, 32, 32), activations=activations)
    inputs = case.inputs(5)
    np.testing.assert_array_equal(case.run(inputs)[0], case.quantized.run(inputs)[0])


@pytest.mark.parametrize("make", [Gated, mobilenet_v3])
def test_what_integers_lack_stays_in_float32(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(5)
    model = randomize(make())
    case = quantized(model, (1, 8 if make is Gated else 3, 32, 32))
    assert any("sigmoid" in each for each in case.in_float32)
    for seed in range(2):
        inputs = case.inputs(seed)
        wanted = case.quantized.run(inputs)[0]
        moved = relative_error(wanted, case.original.run(inputs)[0])
        assert relative_error(case.run(inputs)[0], wanted) <= max(TOLERANCE, moved)


def test_bias_too_large_for_integers_is_added_in_float32() -> None:
    """As of a channel that batch norm has all but switched off."""
    first = nn.Conv2d(8, 16, 1)
    assert first.bias is not None
    with torch.no_grad():
        first.weight[3] = 1e-12
        first.bias[3] = 2.0
    case = quantized(nn.Sequential(first, nn.ReLU(), nn.Conv2d(16, 4, 1)), SHAPE)
    inputs = case.inputs(0)
    found, original = case.run(inputs)[0], case.original.run(inputs)[0]
    assert relative_error(found, original) < 0.05
    assert relative_error(found, case.quantized.run(inputs)[0]) < 0.02


def test_program_of_another_quantizer() -> None:
    """Of torchao's own for x86: its bias is on no grid, and scales of a concatenation differ."""
    from torchao.quantization.pt2e import quantize_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    torch.manual_seed(6)
    original = traced(randomize(Joined()), SHAPE)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = quantize_pt2e.prepare_pt2e(original.exported.module(), quantizer)
    for seed in range(4):
        prepared(torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)))
    converted = quantize_pt2e.convert_pt2e(prepared)
    exported = torch.export.export(converted, (torch.randn(SHAPE),))
    case = imported(models.trace(models.of_program(exported, "net")), original)
    assert case.weights() == {"int8"}
    inputs = case.inputs(7)
    found = case.run(inputs)[0]
    assert relative_error(found, case.quantized.run(inputs)[0]) < 0.02
    assert relative_error(found, case.quantized.run_in_float32(inputs)[0]) < 0.02


def test_gpu_refuses() -> None:
    case = quantized(between(), SHAPE)
    imported_again = import_program(case.quantized)
    with pytest.raises(
        UsageError, match="runs networks on the GPU, which does not compute in int8"
    ):
        lower(imported_again, load("rk3399-mali"), "float32")

"""Networks in float16: rejected targets, dtypes between kernels, and numerics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from kernels import HOST
from networks import NETWORKS, made
from torch import nn
from tvm import relax, tirx

from tvm_eff import frontend, models, passes, targets
from tvm_eff.deploy.library import build_library
from tvm_eff.device import LocalDevice
from tvm_eff.errors import UsageError
from tvm_eff.passes import RelaxNetwork
from tvm_eff.schedules import analysis
from tvm_eff.tensors import HALF_ROUNDOFF, network_tolerance, relative_error

# TVM's names of kernels that only move data.
MOVES = re.compile(r"(fused_)?((transpose|reshape)\d*_?)+")
MALI = targets.load("rk3399-mali")


def half(model: nn.Module, *inputs: torch.Tensor) -> RelaxNetwork:
    return passes.lower(frontend.import_model(model.eval(), inputs), MALI, "float16")


@pytest.fixture(scope="module")
def device() -> Iterator[LocalDevice]:
    with LocalDevice(threads=2) as opened:
        yield opened


def run(
    network: RelaxNetwork, device: LocalDevice, folder: Path, *inputs: torch.Tensor
) -> list[np.ndarray]:
    """Run a network's kernels unscheduled on this machine's processor."""
    library = folder / "model.so"
    build_library(network, None, HOST, library)
    outputs, _ = device.run(library, [x.numpy() for x in inputs])
    return list(outputs)


def calls(network: RelaxNetwork) -> list[tuple[relax.Var, relax.Call]]:
    """Return the kernels that ``main`` calls, and the variables of their results."""
    return [
        (binding.var, binding.value)
        for block in network.mod["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call)
        and binding.value.op == tvm.ir.Op.get("relax.call_tir")
    ]


def wide_between(network: RelaxNetwork) -> list[tuple[str, str]]:
    """Return the pairs of kernels that pass float32 tensors, except to data movement.

    Outputs of the network are moved in float32.
    """
    results = {var: call.args[0].name_hint for var, call in calls(network)}
    return [
        (results[argument], call.args[0].name_hint)
        for _, call in calls(network)
        for argument in call.args[1]
        if isinstance(argument, relax.Var)
        and argument in results
        and str(argument.ty.dtype) == "float32"
        and not MOVES.fullmatch(call.args[0].name_hint)
    ]


def casts_alone(network: RelaxNetwork) -> list[str]:
    """Return the kernels that only cast, except those of inputs."""
    inputs = set(network.mod["main"].params[: len(network.inputs)])
    return [
        call.args[0].name_hint
        for _, call in calls(network)
        if call.args[0].name_hint.rstrip("0123456789") in ("cast", "fused_cast")
        and not any(argument in inputs for argument in call.args[1])
    ]


@pytest.mark.parametrize("name", ["host", "rasp4", "rasp3", "rasp3-armv7", "rk3399"])
def test_a_processor_without_it_is_refused(name: str) -> None:
    network = frontend.import_model(nn.Linear(8, 8).eval(), [torch.zeros(1, 8)])
    expected = rf"{name} runs networks on a processor without arithmetic in float16 \(.*fullfp16"
    with pytest.raises(UsageError, match=expected):
        passes.lower(network, targets.load(name), "float16")


@pytest.mark.parametrize("name", ["rasp5", "rk3588"])
def test_a_processor_that_computes_in_it(name: str) -> None:
    passes.require_dtype(targets.load(name), "float16")


def test_channels_are_whole_vectors_of_float16() -> None:
    target = targets.load("rasp5")
    model = nn.Sequential(nn.Conv2d(8, 124, 1), nn.Conv2d(124, 8, 1)).eval()
    network = passes.lower(
        frontend.import_model(model, [torch.zeros(1, 8, 4, 4)]), target, "float16"
    )
    # Of the weight: the kernel itself slices what was added off.
    assert (128, 1, 1, 8) in {each.shape for each in network.params}


def test_a_gpu_without_it_is_refused() -> None:
    assert MALI.gpu is not None
    old = replace(MALI, gpu=replace(MALI.gpu, float16=False))
    with pytest.raises(UsageError, match="GPU of rk3399-mali does not compute in float16"):
        passes.require_dtype(old, "float16")


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown dtype 'float61'; did you mean .*'float16'"):
        passes.require_dtype(MALI, "float61")


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_of_any_network_pass_on_float16(name: str) -> None:
    model, inputs = made(name)
    network = half(model, *inputs)
    assert not wide_between(network)
    assert not casts_alone(network)


@pytest.mark.parametrize("name", ["squeezenet_complex_bypass", "mobilenet"])
def test_a_family_has_no_kernel_more_in_float16(name: str) -> None:
    imported = frontend.import_program(models.trace(models.load(name)))
    single, network = (passes.lower(imported, MALI, d) for d in ("float32", "float16"))
    assert not wide_between(network)
    assert not casts_alone(network)
    kinds = [Counter(_kind(call) for _, call in calls(each)) for each in (single, network)]
    assert kinds[0] == kinds[1]
    # Biases stay float32, which costs a few percent.
    sizes = [sum(param.nbytes for param in each.params) for each in (single, network)]
    assert sizes[1] < 0.52 * sizes[0]


def _kind(call: relax.Call) -> str:
    name = call.args[0].name_hint
    kinds = ("conv2d", "matmul", "max_pool2d", "mean", "avg_pool2d", "place", "together")
    return next((kind for kind in kinds if kind in name), "rest")


def test_a_sum_is_rounded_once_behind_its_epilogue() -> None:
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1))
    network = half(model, torch.zeros(1, 8, 9, 9))
    kernel = next(
        network.mod[call.args[0]] for _, call in calls(network) if "relu" in call.args[0].name_hint
    )
    *inputs, output = kernel.params
    assert [str(each.dtype) for each in inputs] == ["float16", "float16", "float32"]
    assert str(output.dtype) == "float16"
    sch = analysis.inspect(kernel)
    padded, *epilogue, result = [sch.get(block).body.value for block in analysis.blocks(sch)]
    assert str(padded.ty.dtype) == "float16"
    assert {str(value.ty.dtype) for value in epilogue} == {"float32"}
    assert isinstance(result, tirx.Cast)
    assert str(result.ty.dtype) == "float16"
    # The schedules still match it as a contraction.
    assert analysis.contraction(kernel) is not None


# These sums or values overflow or underflow float16.
class LongSum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.abs() * torch.arange(1, 9).reshape(1, 8, 1, 1)).mean((2, 3))


class Large(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x * 4) * 1e-5 + torch.relu(x) * 1e-7 * 1e7


class Norm(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 1000).pow(2).sum(1).sqrt()


class Masked(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = (x @ x.transpose(1, 2)).masked_fill(x.new_ones(8, 8).tril() == 0, -1e9)
        return torch.softmax(scores, 2) @ x.clamp(-1e9, 1e9)


class CompiledLater(nn.Module):
    """LegalizeOps leaves a running sum until the library is built."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x).cumsum(1) * 2


NUMERICS = {
    "long_sum": (LongSum(), (1, 8, 96, 96)),
    "long_product": (nn.Linear(4096, 16), (1, 4096)),
    "large_and_small": (Large(), (1, 8, 8, 8)),
    "squares": (Norm(), (4, 16)),
    "mask": (Masked(), (2, 8, 8)),
    "running_sum": (CompiledLater(), (2, 64)),
}


@pytest.mark.parametrize("name", NUMERICS)
def test_what_float16_cannot_hold_is_computed_in_float32(
    name: str, device: LocalDevice, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, shape = NUMERICS[name]
    x = torch.randn(shape)
    with torch.no_grad():
        wanted = model(x).numpy()
    [actual] = run(half(model, x), device, tmp_path, x)
    assert relative_error(actual, wanted) <= 2 * HALF_ROUNDOFF


RUN = (
    *("mobilenet_v3", "resnet", "densenet", "activations", "softmax_of_channels"),
    *("average_pooling", "normalizations", "transposed", "split", "dense_only"),
)


@pytest.mark.parametrize("name", RUN)
def test_a_network_computes_what_pytorch_computes(
    name: str, device: LocalDevice, tmp_path: Path
) -> None:
    model, inputs = made(name)
    with torch.no_grad():
        wanted = model(*inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    outputs = run(half(model, *inputs), device, tmp_path, *inputs)
    assert len(outputs) == len(wanted)
    for actual, expected in zip(outputs, wanted, strict=True):
        assert actual.dtype == np.float32
        error = relative_error(actual, expected.numpy())
        # A smaller error would mean that nothing was rounded to float16.
        assert 1e-6 < error <= network_tolerance("float16")

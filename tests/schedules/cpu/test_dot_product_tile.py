"""Tiles of dot products: where they are offered, and that they are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
import tvm
from quantized_networks import between, quantized
from torch import nn

from tvm_eff import schedules, targets, tune
from tvm_eff.codegen.compile import compile_kernel
from tvm_eff.schedules import analysis
from tvm_eff.schedules.cpu import dot_products
from tvm_eff.schedules.packing import Packing
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.checker import kernel_inputs

RULE = "dot_product_tile"


def with_vnni() -> Target:
    """Return the host, or one like it with the instruction, for which code is made and not run."""
    host = targets.load("host")
    if dot_products.VPDPBUSD.offered(host):
        return host
    hardware = replace(host.hardware, vector_bytes=64, vector_registers=32)
    tvm_target = {**host.tvm, "mcpu": "x86-64-v4", "mattr": ("+avx512vnni",)}
    return replace(host, tvm=MappingProxyType(tvm_target), hardware=hardware)


VNNI = with_vnni()


def kernels(model: nn.Module, shape: tuple[int, ...]) -> list[Task]:
    torch.manual_seed(0)
    found = tune.extract(quantized(model, shape).lowered.mod)
    return [each for each in found if analysis.contraction(each.func)]


LAYERS: dict[str, Callable[[], nn.Module]] = {
    # 11 positions are no whole number of tiles of 3, 4, 5, 6...
    "padded": lambda: nn.Conv2d(8, 32, 3, padding=1),
    "padded_with_zero": lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(8, 32, 3, padding=1)),
    "strided": lambda: nn.Conv2d(8, 48, 3, 2, 1),
    "dilated": lambda: nn.Conv2d(8, 16, 3, dilation=2),
    "pointwise": lambda: nn.Conv2d(8, 64, 1),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8 * 11 * 11, 64)),
}


def runs_vnni() -> bool:
    return VNNI.name == "host" and dot_products.VPDPBUSD.offered(targets.load("host"))


@pytest.mark.parametrize("name", LAYERS)
def test_candidates_are_exact(name: str) -> None:
    """Run where the processor has the instruction; compiled to it everywhere."""
    (task,) = kernels(LAYERS[name](), (1, 8, 11, 11))
    found = [each for each in schedules.candidates(task.func, VNNI) if each.rule == RULE]
    assert found
    inputs = kernel_inputs(task.inputs)
    module = tvm.IRModule({"main": task.func.with_attr("global_symbol", "main")})
    expected = run(tvm.tirx.build(module, target="llvm"), task, inputs)
    for candidate in found[:: max(1, len(found) // 8)]:
        sch = schedules.apply(task.func, candidate, VNNI)
        built = compile_kernel(sch, VNNI)
        assert "vpdpbusd" in built.inspect_source("s")
        if runs_vnni():
            packed = schedules.pack_inputs(schedules.packings(task.func, candidate), inputs)
            np.testing.assert_array_equal(run(built, task, packed), expected, str(candidate))


def run(module: tvm.runtime.Module, task: Task, inputs: list[np.ndarray]) -> np.ndarray:
    result = tvm.runtime.tensor(np.zeros(task.outputs[0].shape, task.outputs[0].dtype))
    module["main"](*map(tvm.runtime.tensor, inputs), result)
    return result.numpy()


def test_trace_replays() -> None:
    (task,) = kernels(nn.Conv2d(8, 32, 3, padding=1), (1, 8, 11, 11))
    candidate = next(c for c in schedules.candidates(task.func, VNNI) if c.rule == RULE)
    sch = schedules.apply(task.func, candidate, VNNI)
    again = analysis.schedule(task.func)
    sch.trace.apply_to_schedule(again, remove_postproc=False)
    tvm.ir.assert_structural_equal(again.mod, sch.mod)


@pytest.mark.parametrize(
    "model",
    [
        nn.Conv2d(6, 16, 1),
        nn.Conv2d(8, 12, 1),
        nn.Conv2d(8, 16, 1, groups=2),
        nn.Conv2d(8, 8, 3, groups=8),
    ],
    ids=["depth", "channels", "groups", "depthwise"],
)
def test_where_it_is_not_offered(model: nn.Conv2d) -> None:
    (task,) = kernels(model, (1, model.in_channels, 9, 9))
    found = {each.rule for each in schedules.candidates(task.func, VNNI)}
    assert found
    assert RULE not in found


def test_processors_without_the_instruction() -> None:
    """LLVM would end the process."""
    tasks = kernels(between(), (1, 8, 9, 9))
    plain = [name for name in VNNI.tvm["mattr"] if name != "+avx512vnni"]
    without = replace(VNNI, tvm=MappingProxyType({**VNNI.tvm, "mattr": tuple(plain)}))
    for target in (without, targets.load("rasp4"), targets.load("rasp3-armv7")):
        rules = {each.rule for task in tasks for each in schedules.candidates(task.func, target)}
        assert "register_tile" in rules
        assert RULE not in rules


def test_packing() -> None:
    weight = np.arange(32 * 2 * 3 * 8).reshape(32, 2, 3, 8)
    packing = Packing(0, 0, (1, 2, 3), 16, inner=4)
    packed = packing.pack(weight)
    assert packed.shape == (2, 2, 3, 2, 16, 4)
    for index in np.ndindex(weight.shape):
        assert packed[tuple(packing.index(*index))] == weight[index]

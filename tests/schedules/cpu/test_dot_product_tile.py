"""Tiles of dot products: where they are offered, and that they are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal

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
from tvm_eff.targets.detect import processor_features
from tvm_eff.tune import Task
from tvm_eff.tune.checker import kernel_inputs

RULE = "dot_product_tile"


def like_host(
    mattr: tuple[str, ...], vector_bytes: Literal[16, 32, 64], mcpu: str = "x86-64-v4"
) -> Target:
    """Return an x86 with these features alone: what runs here as well where the host has them."""
    host = targets.load("host")
    registers = 16 if mcpu == "x86-64-v3" else 32
    hardware = replace(host.hardware, vector_bytes=vector_bytes, vector_registers=registers)
    tvm_target = {**host.tvm, "mtriple": "x86_64-linux-gnu", "mcpu": mcpu, "mattr": mattr}
    return replace(host, tvm=MappingProxyType(tvm_target), hardware=hardware)


@dataclass(frozen=True)
class Processor:
    """A target, what its code is told by, and what Linux calls what it needs."""

    target: Target
    instruction: dot_products.DotProduct
    mnemonic: str
    needs: frozenset[str]

    @property
    def runs(self) -> bool:
        return self.needs <= processor_features()


WIDE: Final = 64
NARROW: Final = 32
AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl"})
PROCESSORS = {
    "vnni": Processor(
        like_host(("+avx512vnni", "+avx512bw", "+avx2", "-prefer-256-bit"), WIDE),
        dot_products.VPDPBUSD,
        "vpdpbusd",
        AVX512 | {"avx512_vnni"},
    ),
    "vnni_of_256_bits": Processor(
        like_host(("+avx512vnni", "+avx2"), NARROW),
        dot_products.VPDPBUSD_8,
        "vpdpbusd",
        AVX512 | {"avx512_vnni"},
    ),
    "avx_vnni": Processor(
        like_host(("+avxvnni", "+avx2"), NARROW, "x86-64-v3"),
        dot_products.VPDPBUSD_8,
        "{vex}\tvpdpbusd",
        frozenset({"avx_vnni"}),
    ),
    "avx512bw": Processor(
        like_host(("+avx512bw", "+avx2", "-prefer-256-bit"), WIDE),
        dot_products.VPMADDWD,
        "vpmaddwd",
        AVX512,
    ),
    "avx2": Processor(
        like_host(("+avx2",), NARROW, "x86-64-v3"),
        dot_products.VPMADDWD_8,
        "vpmaddwd",
        frozenset({"avx2"}),
    ),
}
VNNI = PROCESSORS["vnni"].target


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


@lru_cache(maxsize=len(LAYERS))
def kernel_and_results(name: str) -> tuple[Task, list[tuple[list[np.ndarray], np.ndarray]]]:
    """Return a layer, and for random and for extreme inputs what it computes unscheduled."""
    (task,) = kernels(LAYERS[name](), (1, 8, 11, 11))
    inputs = kernel_inputs(task.inputs)
    module = tvm.IRModule({"main": task.func.with_attr("global_symbol", "main")})
    plain = tvm.tirx.build(module, target="llvm")
    cases = [inputs, extreme(inputs, 255, -127), extreme(inputs, 255, 127), extreme(inputs, 0, 1)]
    return task, [(case, run(plain, task, case)) for case in cases]


def extreme(inputs: list[np.ndarray], activation: int, weight: int) -> list[np.ndarray]:
    """Return inputs whose bytes are all alike."""
    value = {"uint8": activation, "int8": weight}
    return [
        np.full_like(x, value.get(str(x.dtype), 0)) if x.dtype != "float32" else x for x in inputs
    ]


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("name", LAYERS)
def test_candidates_are_exact(name: str, processor: str) -> None:
    """Run where the processor has the instruction; compiled to it everywhere."""
    task, results = kernel_and_results(name)
    on = PROCESSORS[processor]
    found = [each for each in schedules.candidates(task.func, on.target) if each.rule == RULE]
    assert found
    assert {dot_products.of_candidate(each) for each in found} == {on.instruction}
    for candidate in found[:: max(1, len(found) // (6 if on.target is VNNI else 2))]:
        built = compile_kernel(schedules.apply(task.func, candidate, on.target), on.target)
        assert on.mnemonic in built.inspect_source("s")
        for inputs, expected in results if on.runs else ():
            packed = schedules.pack_inputs(schedules.packings(task.func, candidate), inputs)
            np.testing.assert_array_equal(run(built, task, packed), expected, str(candidate))


def test_an_image_leaves_registers() -> None:
    """A row of the kernel is unrolled, whose inputs neighbouring positions share."""
    (task,) = kernels(nn.Conv2d(3, 32, 3, 2, 1), (1, 3, 64, 64))
    found = [each for each in schedules.candidates(task.func, VNNI) if each.rule == RULE]
    assert found
    for each in found:
        vectors = each["columns"] // 16
        assert (each["rows"] + 1) * vectors + each["rows"] < VNNI.hardware.vector_registers


def test_channels_of_half_vectors() -> None:
    """A thousand classes are no multiple of 16: their tiles are of 8 lanes."""
    (task,) = kernels(nn.Linear(64, 40), (1, 64))
    found = [each for each in schedules.candidates(task.func, VNNI) if each.rule == RULE]
    assert {dot_products.of_candidate(each) for each in found} == {dot_products.VPDPBUSD_8}


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
    for target in (like_host(("+sse2",), 16, "x86-64"), targets.load("rasp3-armv7")):
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

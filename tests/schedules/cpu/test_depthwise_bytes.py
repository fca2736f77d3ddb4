"""Depthwise layers of bytes: where their tiles are offered, and that they are exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pytest
import torch
import tvm
from quantized_networks import traced
from torch import nn

from tvm_eff import frontend, passes, quantize, schedules, targets, tune
from tvm_eff.codegen import build_kernel, compile_kernel
from tvm_eff.device import Device, EmulatedDevice
from tvm_eff.quantize import Activations
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.schedules.cpu import kernel_products
from tvm_eff.targets import Target
from tvm_eff.targets.detect import processor_features
from tvm_eff.tune import Task
from tvm_eff.tune.checker import kernel_inputs

RULE = "depthwise_bytes"


def like_host(vector_bytes: Literal[32, 64]) -> Target:
    """Return an x86 with VNNI, whose code runs here as well where the host has it."""
    host = targets.load("host")
    hardware = replace(host.hardware, vector_bytes=vector_bytes, vector_registers=32)
    features = ("+avx512vnni", "-prefer-256-bit")
    changed = {"mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v4", "mattr": features}
    return replace(host, tvm=MappingProxyType({**host.tvm, **changed}), hardware=hardware)


X86 = {"vnni": like_host(64), "vnni_of_256_bits": like_host(32)}
RUNS_VNNI = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"} <= processor_features()

LAYERS: dict[str, Callable[[], nn.Module]] = {
    # 11 positions are no whole number of tiles of 2, 3, 4, 5...
    "padded": lambda: nn.Conv2d(32, 32, 3, padding=1, groups=32),
    "padded_with_zero": lambda: nn.Sequential(
        nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1, groups=32)
    ),
    "strided": lambda: nn.Conv2d(32, 32, 3, 2, 1, groups=32),
    "five": lambda: nn.Conv2d(32, 32, 5, padding=2, groups=32),
    "half_vectors": lambda: nn.Conv2d(24, 24, 3, groups=24),
}
CHANNELS = {"half_vectors": 24}


def kernel(model: nn.Module, channels: int, target: Target) -> Task:
    torch.manual_seed(0)
    activations: Activations = "uint8" if "x86" in target.toolchain.triple else "int8"
    program = quantize.quantize(traced(model, (1, channels, 11, 11)), None, None, activations)
    network = frontend.import_program(program.program, frontend.decompose(program.program))
    found = tune.extract(passes.lower(network, target, "int8").mod)
    (task,) = [each for each in found if analysis.contraction(each.func)]
    return task


def tiles(task: Task, target: Target) -> list[Candidate]:
    return [each for each in schedules.candidates(task.func, target) if each.rule == RULE]


def cases(task: Task, activation: int) -> list[list[np.ndarray]]:
    """Return random inputs, and those with the largest sums there are."""
    inputs = kernel_inputs(task.inputs)
    data, weight, *others = inputs
    largest = np.full_like(data, activation)
    return [inputs, *([largest, np.full_like(weight, w), *others] for w in (-127, 127))]


def run(module: tvm.runtime.Module, task: Task, inputs: list[np.ndarray]) -> np.ndarray:
    result = tvm.runtime.tensor(np.zeros(task.outputs[0].shape, task.outputs[0].dtype))
    module["main"](*map(tvm.runtime.tensor, inputs), result)
    return result.numpy()


@lru_cache(maxsize=len(LAYERS))
def on_x86(name: str) -> tuple[Task, list[tuple[list[np.ndarray], np.ndarray]]]:
    task = kernel(LAYERS[name](), CHANNELS.get(name, 32), X86["vnni"])
    plain = tvm.tirx.build(task.module, target="llvm")
    return task, [(each, run(plain, task, each)) for each in cases(task, 255)]


@pytest.mark.parametrize("processor", X86)
@pytest.mark.parametrize("name", LAYERS)
def test_exact_on_x86(name: str, processor: str) -> None:
    """Run where the processor has the instruction; compiled to it everywhere."""
    target = X86[processor]
    task, results = on_x86(name)
    found = tiles(task, target)
    assert found[0] == schedules.candidates(task.func, target)[0]
    for candidate in (found[0], found[len(found) // 2], found[-1]):
        built = compile_kernel(schedules.apply(task.func, candidate, target), target)
        assert "vpdpbusd" in built.inspect_source("s")
        for inputs, expected in results if RUNS_VNNI else ():
            packed = schedules.pack_inputs(schedules.packings(task.func, candidate), inputs)
            np.testing.assert_array_equal(run(built, task, packed), expected, str(candidate))


# A core of 64 bits and one of 32.
BOARDS = {"rasp4": ("smull", "smlal", "saddw"), "rasp3-armv7": ("vmul.i16", "vmla.i16", "vaddw")}


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest, emulator: None) -> Iterator[tuple[Target, Device]]:
    target = targets.load(request.param)
    assert target.emulator is not None
    with EmulatedDevice(target.emulator.arch, target.emulator.cpu) as device:
        yield target, device


@pytest.mark.parametrize("name", LAYERS)
def test_exact_on_boards(board: tuple[Target, Device], name: str, tmp_path: Path) -> None:
    target, device = board
    task = kernel(LAYERS[name](), CHANNELS.get(name, 32), target)
    found = tiles(task, target)
    assert found[0] == schedules.candidates(task.func, target)[0]
    reference = tvm.tirx.build(task.module, target="llvm")
    for number, candidate in enumerate((found[0], found[-1])):
        library = tmp_path / f"{number}.so"
        build_kernel(schedules.apply(task.func, candidate, target), target, library)
        for each in cases(task, -128):
            packed = schedules.pack_inputs(schedules.packings(task.func, candidate), each)
            (output,), _ = device.call(library, "main", packed, task.outputs)
            wanted = run(reference, task, each)
            np.testing.assert_array_equal(output, wanted, str(candidate))


@pytest.mark.parametrize("name", BOARDS)
def test_pairs_of_products_on_arm(name: str) -> None:
    target = targets.load(name)
    task = kernel(LAYERS["padded"](), 32, target)
    built = compile_kernel(schedules.apply(task.func, tiles(task, target)[0], target), target)
    assembly = str(built.inspect_source("s"))
    assert all(each in assembly for each in BOARDS[name])


@pytest.mark.parametrize(
    "model",
    [
        nn.Conv2d(32, 32, 3, dilation=2, groups=32),
        nn.Conv2d(32, 32, (1, 3), groups=32),
        nn.Conv2d(12, 12, 3, groups=12),
        nn.Conv2d(32, 32, 3, groups=2),
    ],
    ids=["dilated", "row", "channels", "grouped"],
)
def test_where_it_is_not_offered(model: nn.Conv2d) -> None:
    task = kernel(model, model.in_channels, X86["vnni"])
    assert schedules.candidates(task.func, X86["vnni"])
    assert not tiles(task, X86["vnni"])


def test_processors_without_the_instructions() -> None:
    task, _ = on_x86("padded")
    plain = replace(X86["vnni"], tvm={**X86["vnni"].tvm, "mattr": ("+avx2",)})
    assert not tiles(task, plain)
    assert not kernel_products.of_target(plain)


def test_trace_replays() -> None:
    task, _ = on_x86("padded")
    sch = schedules.apply(task.func, tiles(task, X86["vnni"])[0], X86["vnni"])
    again = analysis.schedule(task.func)
    sch.trace.apply_to_schedule(again, remove_postproc=False)
    tvm.ir.assert_structural_equal(again.mod, sch.mod)

"""Tiles of dot products on emulated boards: where they are offered, and that they are exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from quantized_networks import traced
from torch import nn

from tvm_eff import frontend, passes, quantize, schedules, targets, tune
from tvm_eff.codegen import build_kernel, compile_kernel
from tvm_eff.device import Device, EmulatedDevice
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.schedules.cpu import dot_products
from tvm_eff.schedules.cpu.dot_products import PAIRS, PAIRS_32, SDOT
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.checker import kernel_inputs

RULE = "dot_product_tile"

# A core without dot products, one that is in order, one with them, and 32 bits.
BOARDS = {"rasp4": PAIRS, "rasp3": PAIRS, "rasp5": SDOT, "rasp3-armv7": PAIRS_32}

MNEMONICS = {
    "rasp4": ("smull", "smlal", "sadalp"),
    "rasp3": ("smull", "smlal", "sadalp"),
    # By element: the four activations are those of a lane.
    "rasp5": ("sdot", ".4b["),
    "rasp3-armv7": ("vmull.s8", "vmlal.s8", "vpadal.s16"),
}

LAYERS: dict[str, Callable[[], nn.Module]] = {
    # 11 positions are no whole number of tiles of 3, 4, 5, 7...
    "padded": lambda: nn.Conv2d(16, 24, 3, padding=1),
    "strided": lambda: nn.Conv2d(16, 20, 3, 2, 1),
    "image": lambda: nn.Conv2d(3, 16, 3, 2, 1),
    "pointwise_to_bytes": lambda: nn.Sequential(
        nn.Conv2d(24, 16, 1, bias=False), nn.ReLU(), nn.MaxPool2d(2)
    ),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8 * 11 * 11, 100)),
}
CHANNELS = {"image": 3, "dense": 8, "pointwise_to_bytes": 24}


def kernels(model: nn.Module, shape: tuple[int, ...], target: Target) -> list[Task]:
    """Return the convolutions of a network quantized for Arm."""
    torch.manual_seed(0)
    program = quantize.quantize(traced(model, shape), None, None, "int8").program
    network = frontend.import_program(program, frontend.decompose(program))
    found = tune.extract(passes.lower(network, target, "int8").mod)
    return [each for each in found if analysis.contraction(each.func)]


def tiles(task: Task, target: Target) -> list[Candidate]:
    return [each for each in schedules.candidates(task.func, target) if each.rule == RULE]


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest, emulator: None) -> Iterator[tuple[Target, Device]]:
    target = targets.load(request.param)
    assert target.emulator is not None
    with EmulatedDevice(target.emulator.arch, target.emulator.cpu) as device:
        yield target, device


def extremes(inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The largest products there are: the sum of two just fits 16 bits."""
    data, weight, *others = inputs
    assert data.dtype == weight.dtype == np.int8
    return [np.full_like(data, -128), np.full_like(weight, -127), *others]


@pytest.mark.parametrize("name", LAYERS)
def test_tiles_are_exact(board: tuple[Target, Device], name: str, tmp_path: Path) -> None:
    target, device = board
    (task,) = kernels(LAYERS[name](), (1, CHANNELS.get(name, 16), 11, 11), target)
    found = tiles(task, target)
    # Winograd's algorithm comes before them where it gains most.
    assert found[0] in schedules.candidates(task.func, target)[:2]
    mod = tvm.IRModule({"main": task.func.with_attr("global_symbol", "main")})
    reference = tvm.tirx.build(mod, target="llvm")
    for number, candidate in enumerate({found[0], found[len(found) // 2], found[-1]}):
        library = tmp_path / f"{number}.so"
        build_kernel(schedules.apply(task.func, candidate, target), target, library)
        inputs = kernel_inputs(task.inputs)
        for each in (inputs, extremes(inputs)):
            wanted = run(reference, task, each)
            packed = schedules.pack_inputs(schedules.packings(task.func, candidate), each)
            (output,), _ = device.call(library, "main", packed, task.outputs)
            np.testing.assert_array_equal(output, wanted, str(candidate))


def run(module: tvm.runtime.Module, task: Task, inputs: list[np.ndarray]) -> np.ndarray:
    result = tvm.runtime.tensor(np.zeros(task.outputs[0].shape, task.outputs[0].dtype))
    module["main"](*map(tvm.runtime.tensor, inputs), result)
    return result.numpy()


@pytest.mark.parametrize("name", BOARDS)
def test_instructions(name: str) -> None:
    target = targets.load(name)
    assert dot_products.of_target(target) is BOARDS[name]
    (task,) = kernels(nn.Conv2d(64, 32, 1), (1, 64, 14, 14), target)
    built = compile_kernel(schedules.apply(task.func, tiles(task, target)[0], target), target)
    assembly = str(built.inspect_source("s"))
    for each in MNEMONICS[name]:
        assert each in assembly


def test_a_processor_that_is_not_said_to_have_sdot() -> None:
    board = targets.load("rasp5")
    plain = replace(board, tvm={**board.tvm, "mattr": ("+neon",)})
    assert dot_products.of_target(plain) is PAIRS


@pytest.mark.parametrize(
    "model",
    [nn.Conv2d(6, 16, 1), nn.Conv2d(8, 10, 1), nn.Conv2d(8, 16, 1, groups=2)],
    ids=["depth", "channels", "groups"],
)
def test_where_they_are_not_offered(model: nn.Conv2d) -> None:
    target = targets.load("rasp4")
    (task,) = kernels(model, (1, model.in_channels, 9, 9), target)
    assert {each.rule for each in schedules.candidates(task.func, target)} >= {"register_tile"}
    assert not tiles(task, target)


def test_trace_replays() -> None:
    target = targets.load("rasp4")
    (task,) = kernels(nn.Conv2d(16, 24, 3, padding=1), (1, 16, 11, 11), target)
    sch = schedules.apply(task.func, tiles(task, target)[0], target)
    again = analysis.schedule(task.func)
    sch.trace.apply_to_schedule(again, remove_postproc=False)
    tvm.ir.assert_structural_equal(again.mod, sch.mod)

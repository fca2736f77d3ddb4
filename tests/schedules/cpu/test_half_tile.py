"""Kernels in float16 on the emulated Cortex-A76: right, in blocks, and with its instructions."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import tvm_ffi
from half_kernels import RASP5, Case, require_right, run, then
from kernels import HOST, Bench
from torch import nn

from tvm_eff import frontend, passes, schedules, targets, tune
from tvm_eff.codegen import compile_kernel
from tvm_eff.device import EmulatedDevice
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.builder import Builder

RIGHT: dict[str, Case] = {
    "tail_of_a_row": (then(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU()), (1, 16, 13, 13)),
    "blocks_of_some_of_the_kernel": (then(nn.Conv2d(48, 16, 3, bias=False)), (1, 48, 7, 9)),
    "float16_totals": (then(nn.Conv2d(96, 24, 1), nn.ReLU6()), (1, 96, 5, 7)),
    "float16_totals_of_many": (then(nn.Conv2d(1024, 16, 1), nn.ReLU6()), (1, 1024, 5, 7)),
    "float32_totals": (then(nn.Conv2d(1088, 16, 1), nn.ReLU6()), (1, 1088, 5, 7)),
    "odd_channels": (then(nn.Conv2d(5, 10, 3, stride=2)), (1, 5, 15, 15)),
    "groups": (then(nn.Conv2d(32, 16, 3, groups=2)), (1, 32, 7, 7)),
    "dilation": (then(nn.Conv2d(8, 8, 3, dilation=2), nn.Sigmoid()), (1, 8, 9, 9)),
    "first_layer": (then(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU()), (1, 3, 37, 45)),
    "first_layer_of_many_terms": (then(nn.Conv2d(3, 8, 7, 2)), (1, 3, 19, 19)),
    "depthwise": (then(nn.Conv2d(24, 24, 3, 1, 1, groups=24), nn.ReLU6()), (1, 24, 9, 11)),
    "depthwise_stride": (then(nn.Conv2d(8, 8, 5, 2, 2, groups=8)), (1, 8, 15, 14)),
    "dense": (nn.Linear(300, 10).eval(), (1, 300)),
    "dense_of_a_batch": (nn.Linear(64, 24).eval(), (5, 64)),
}


@pytest.fixture(scope="module")
def bench(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with EmulatedDevice("aarch64", "cortex-a76") as device, Builder() as builder:
        yield Bench(builder, device, RASP5, tmp_path_factory.mktemp("half"))


def kernel(case: Case, target: Target = RASP5) -> Task:
    model, shape = case
    torch.manual_seed(0)
    network = frontend.import_model(model, [torch.zeros(shape)])
    found = tune.extract(passes.lower(network, target, "float16").mod)
    return next(each for each in found if analysis.contraction(each.func))


def tried(task: Task) -> list[Candidate]:
    """Return the first candidate of each rule and size of blocks."""
    found: dict[tuple[object, ...], Candidate] = {}
    for each in schedules.candidates(task.func, RASP5):
        values = each.as_dict()
        found.setdefault((each.rule, values.get("kernel"), values.get("depth")), each)
    return list(found.values())


def assembly(task: Task, candidate: Candidate) -> str:
    module = compile_kernel(schedules.apply(task.func, candidate, RASP5), RASP5)
    return str(module.inspect_source("asm"))


@pytest.mark.parametrize("name", RIGHT)
def test_right_on_the_board(name: str, bench: Bench) -> None:
    task = kernel(RIGHT[name])
    require_right(bench, task, tried(task))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("tail_of_a_row", "half_tile"),
        ("float16_totals_of_many", "half_tile"),
        ("float32_totals", "half_tile"),
        ("depthwise", "depthwise_in_place"),
        ("first_layer", "first_layer"),
    ],
)
def test_all_products_are_of_eight_lanes(name: str, rule: str) -> None:
    task = kernel(RIGHT[name])
    text = assembly(task, next(each for each in tried(task) if each.rule == rule))
    assert len(re.findall(r"\bfml[as]\s+v\d+\.8h", text)) > 50
    assert not re.search(r"\bfml[as]\s+v\d+\.4s", text)


@pytest.mark.parametrize("channels", [1024, 4096])
def test_a_long_sum_does_not_stop(channels: int, bench: Bench) -> None:
    # In float16 2,048 + 1 is 2,048. One is the bias.
    task = kernel((then(nn.Conv2d(channels, 8, 1)), (1, channels, 2, 2)))
    inputs = [np.ones(spec.shape, spec.dtype) for spec in task.inputs]
    for candidate in tried(task):
        found = run(bench, task, candidate, inputs)
        np.testing.assert_array_equal(found, np.full(found.shape, channels + 1, "float16"))


def test_what_overflows_is_infinite(bench: Bench) -> None:
    task = kernel((then(nn.Conv2d(320, 8, 1), nn.ReLU6()), (1, 320, 2, 2)))
    inputs = [np.full(spec.shape, 255, spec.dtype) for spec in task.inputs]
    found = run(bench, task, tried(task)[0], inputs)
    np.testing.assert_array_equal(found, np.full(found.shape, 6, "float16"))


def test_smaller_blocks_are_in_reach() -> None:
    found = schedules.candidates(kernel(RIGHT["float32_totals"]).func, RASP5)
    assert {each["depth"] for each in found[:3]} == {64, 32}


def test_no_other_algorithm_is_offered() -> None:
    # In float32 it is Strassen's.
    task = kernel((then(nn.Conv2d(128, 128, 1)), (1, 128, 14, 14)))
    assert {each.rule for each in schedules.candidates(task.func, RASP5)} == {"half_tile"}
    assert not schedules.alternatives(task.func)


@pytest.mark.parametrize("target", [HOST, targets.load("rasp4")])
def test_not_offered_where_nothing_computes_in_it(target: Target) -> None:
    task = kernel(RIGHT["tail_of_a_row"])
    found = schedules.candidates(task.func, target)
    assert found
    assert all(each.rule != "half_tile" and "half_sums" not in each.as_dict() for each in found)


def test_a_trace_replays() -> None:
    task = kernel(RIGHT["float32_totals"])
    made = schedules.apply(task.func, tried(task)[0], RASP5)
    again = analysis.schedule(task.func)
    made.trace.apply_to_schedule(again, remove_postproc=False)
    assert tvm_ffi.structural_equal(made.mod, again.mod)

"""Strassen's algorithm: its sums, its transformed weights and its schedule in row blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import tvm
from kernels import HOST, Bench, tasks_of
from network_modules import Residual
from torch import nn
from tvm_ffi import structural_equal

from tvm_eff import schedules, targets
from tvm_eff.device import LocalDevice
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.schedules.strassen.rewrite import (
    INPUTS,
    OUTPUTS,
    WEIGHTS,
    transform_weight,
    weight_function,
)
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.builder import Builder
from tvm_eff.tune.checker import TOLERANCE

FIRST = 2

on_x86 = pytest.mark.skipif(
    not HOST.toolchain.triple.startswith("x86_64"), reason="this machine is no x86"
)


ROW_BLOCKS = {
    "even": (nn.Conv2d(256, 512, 1), (1, 256, 8, 8)),
    "odd_positions": (nn.Conv2d(256, 256, 1, bias=False), (1, 256, 7, 7)),
    "positions_that_do_not_divide_among_cores": (nn.Conv2d(256, 256, 1), (1, 256, 6, 7)),
    "two_images": (nn.Sequential(nn.Conv2d(256, 256, 1), nn.ReLU()), (2, 256, 6, 6)),
    "three_odd_images": (nn.Sequential(nn.Conv2d(256, 256, 1), nn.ReLU6()), (3, 256, 5, 5)),
    "channels_that_are_no_blocks": (nn.Conv2d(260, 348, 1), (1, 260, 7, 8)),
    "residual": (Residual(256, 1), (1, 256, 6, 7)),
}

NO_ROW_BLOCKS = {
    "few_channels": (nn.Conv2d(128, 512, 1), (1, 128, 8, 8)),
    "stride": (nn.Conv2d(256, 256, 1, stride=2), (1, 256, 16, 16)),
    "kernel": (nn.Conv2d(256, 256, 3), (1, 256, 9, 9)),
    "groups": (nn.Conv2d(256, 256, 1, groups=2), (1, 256, 8, 8)),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with LocalDevice(threads=2) as device, Builder() as builder:
        yield Bench(builder, device, HOST, tmp_path_factory.mktemp("kernels"))


def convolution(case: tuple[nn.Module, tuple[int, ...]], target: Target = HOST) -> Task:
    model, shape = case
    found = tasks_of(model, shape, target=target)
    return next(task for task in found if analysis.contraction(task.func))


def row_block_candidates(task: Task, target: Target = HOST) -> list[Candidate]:
    found = schedules.candidates(task.func, target)
    return [candidate for candidate in found if candidate.rule == "strassen_row_blocks"]


def with_cores(cores: int) -> Target:
    return replace(HOST, hardware=replace(HOST.hardware, cores=cores))


def test_seven_products_are_eight() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, 2)), rng.standard_normal((2, 2))
    products = [
        sum(c * left[at] for at, c in inputs.items())
        * sum(c * right[at] for at, c in weights.items())
        for inputs, weights in zip(INPUTS, WEIGHTS, strict=True)
    ]
    result = np.zeros((2, 2))
    for at, summed in OUTPUTS.items():
        result[at] = sum(c * products[i] for i, c in summed.items())
    np.testing.assert_allclose(result, left @ right, atol=1e-12)


@pytest.mark.parametrize("channels", [16, 20])
def test_the_library_sums_weights_as_the_tuner_does(channels: int) -> None:
    weight = np.random.default_rng(0).standard_normal((channels, 1, 1, 6)).astype("float32")
    expected = transform_weight(weight, 8)
    function = weight_function(weight.shape, "float32", 8).with_attr("global_symbol", "main")
    built = tvm.tirx.build(tvm.IRModule({"main": function}), target="llvm")
    result = tvm.runtime.tensor(np.zeros(expected.shape, "float32"))
    built["main"](tvm.runtime.tensor(weight), result)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", NO_ROW_BLOCKS)
def test_where_row_blocks_are_not_offered(name: str) -> None:
    assert row_block_candidates(convolution(NO_ROW_BLOCKS[name])) == []


def test_row_blocks_are_for_cores_with_private_caches() -> None:
    board = targets.load("rasp4")
    assert row_block_candidates(convolution(ROW_BLOCKS["even"], board), board) == []


CORES = [
    *((name, 2) for name in ROW_BLOCKS),
    *(("even", cores) for cores in (1, 3, 4)),
    *(("three_odd_images", cores) for cores in (1, 4)),
]


@on_x86
@pytest.mark.parametrize(("name", "cores"), CORES)
def test_row_blocks_compute_the_same(name: str, cores: int, bench: Bench) -> None:
    torch.manual_seed(0)
    target = with_cores(cores)
    task = convolution(ROW_BLOCKS[name], target)
    tried = row_block_candidates(task, target)[:FIRST]
    assert tried
    assert max(bench.errors(task, tried, target)) <= TOLERANCE


@on_x86
@pytest.mark.parametrize("name", ["even", "odd_positions", "two_images"])
def test_traces_of_row_blocks_replay(name: str) -> None:
    task = convolution(ROW_BLOCKS[name])
    for candidate in row_block_candidates(task):
        scheduled = schedules.apply(task.func, candidate, HOST)
        replayed = analysis.schedule(schedules.rewritten(task.func, candidate))
        scheduled.trace.apply_to_schedule(replayed, remove_postproc=False)
        tvm.ir.assert_structural_equal(replayed.mod, scheduled.mod)


@on_x86
@pytest.mark.parametrize(("name", "cores"), CORES)
def test_a_library_can_have_what_a_candidate_schedules(name: str, cores: int) -> None:
    target = with_cores(cores)
    task = convolution(ROW_BLOCKS[name], target)
    known = [alternative.func for alternative in schedules.alternatives(task.func)]
    for candidate in row_block_candidates(task, target):
        func = schedules.rewritten(task.func, candidate)
        assert any(structural_equal(func, each) for each in known)

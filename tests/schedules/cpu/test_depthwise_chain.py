"""A depthwise convolution fused with its consumer computes the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from kernels import HOST, Bench, tasks_of
from torch import nn

from tvm_eff import schedules
from tvm_eff.device import LocalDevice
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.builder import Builder
from tvm_eff.tune.checker import TOLERANCE

FIRST = 4

on_x86 = pytest.mark.skipif(
    not HOST.private_caches, reason="chains are for cores with caches of their own"
)

Case = tuple[nn.Module, tuple[int, ...]]


def depthwise(channels: int, kernel: tuple[int, int], **options: object) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, groups=channels, **options)  # type: ignore[arg-type]


def separable(channels: int, size: int) -> list[nn.Module]:
    half = size // 2
    return [
        depthwise(channels, (size, 1), padding=(half, 0)),
        depthwise(channels, (1, size), padding=(0, half)),
    ]


CHAINS: dict[str, Case] = {
    "separable": (nn.Sequential(*separable(32, 5)), (1, 32, 12, 14)),
    "with_an_epilogue": (nn.Sequential(*separable(64, 3), nn.ReLU6()), (1, 64, 8, 9)),
    "two_images": (nn.Sequential(*separable(16, 5)), (2, 16, 7, 13)),
    "wide": (nn.Sequential(*separable(16, 5)), (1, 16, 6, 61)),
    "activation_between": (
        nn.Sequential(depthwise(32, (3, 3), padding=1), nn.ReLU(), depthwise(32, (1, 3))),
        (1, 32, 10, 12),
    ),
    "no_bias": (
        nn.Sequential(
            depthwise(32, (5, 1), bias=False), depthwise(32, (1, 5), bias=False), nn.ReLU()
        ),
        (1, 32, 12, 16),
    ),
    "strides": (
        nn.Sequential(
            depthwise(32, (3, 1), stride=(2, 1), padding=(1, 0)),
            depthwise(32, (1, 3), stride=(1, 2), padding=(0, 1)),
        ),
        (1, 32, 15, 17),
    ),
    "dilation": (
        nn.Sequential(depthwise(32, (3, 1), dilation=2), depthwise(32, (1, 3), dilation=2)),
        (1, 32, 12, 16),
    ),
    "smaller_than_the_kernel": (nn.Sequential(*separable(16, 7)), (1, 16, 2, 2)),
}

POINTWISE: dict[str, Case] = {
    "mobilenet": (
        nn.Sequential(
            depthwise(32, (3, 3), padding=1), nn.ReLU6(), nn.Conv2d(32, 64, 1), nn.ReLU6()
        ),
        (1, 32, 12, 14),
    ),
    "stride_2": (
        nn.Sequential(depthwise(16, (3, 3), stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 1)),
        (1, 16, 13, 15),
    ),
    "no_bias": (
        nn.Sequential(depthwise(32, (3, 3), bias=False), nn.Conv2d(32, 48, 1, bias=False)),
        (1, 32, 9, 9),
    ),
    "odd_output": (
        nn.Sequential(depthwise(32, (3, 3), padding=1), nn.Conv2d(32, 10, 1), nn.Sigmoid()),
        (1, 32, 7, 7),
    ),
    "three_images": (
        nn.Sequential(depthwise(32, (1, 5), padding=(0, 2)), nn.ReLU(), nn.Conv2d(32, 64, 1)),
        (3, 32, 6, 23),
    ),
}

ALL = {
    **{name: ("depthwise_chain", case) for name, case in CHAINS.items()},
    **{f"pointwise_{name}": ("depthwise_pointwise", case) for name, case in POINTWISE.items()},
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with LocalDevice(threads=2) as device, Builder() as builder:
        yield Bench(builder, device, HOST, tmp_path_factory.mktemp("kernels"))


def chain(name: str, target: Target = HOST) -> tuple[Task, list[Candidate]]:
    torch.manual_seed(0)
    rule, (model, shape) = ALL[name]
    found = [(task, schedules.candidates(task.func, target)) for task in tasks_of(model, shape)]
    return next((t, cs) for t, cs in found if any(c.rule == rule for c in cs))


CORES = [
    *((name, 2) for name in ALL),
    *((name, 3) for name in ("separable", "two_images", "wide", "pointwise_mobilenet")),
]


@on_x86
@pytest.mark.parametrize(("name", "cores"), CORES)
def test_chains_compute_the_same(name: str, cores: int, bench: Bench) -> None:
    target = replace(HOST, hardware=replace(HOST.hardware, cores=cores))
    task, candidates = chain(name, target)
    assert {candidate.rule for candidate in candidates} == {ALL[name][0]}
    assert max(bench.errors(task, candidates[:FIRST], target)) <= TOLERANCE


@on_x86
@pytest.mark.parametrize("name", ALL)
def test_both_weights_are_packed(name: str) -> None:
    task, candidates = chain(name)
    parameters = [each.parameter for each in schedules.packings(task.func, candidates[0])]
    assert len(set(parameters)) == 2


@on_x86
def test_its_name_and_its_work_are_those_of_both() -> None:
    task, _ = chain("separable")
    assert task.label == "depthwise 5x1 + depthwise 1x5, 1 -> 32, 12x14"
    assert analysis.multiply_adds(task.func) == 2 * 5 * 32 * 12 * 14

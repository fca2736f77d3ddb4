"""Schedules compiled for ARM compute the same on emulated boards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernels import Bench, tasks_of
from torch import nn

from tvm_eff import schedules, targets
from tvm_eff.device import EmulatedDevice
from tvm_eff.tune.builder import Builder
from tvm_eff.tune.checker import TOLERANCE

# The first reads its input as vectors on 64-bit ARM and has a tail of one position;
# the second has no whole vectors.
KERNELS = {
    "convolution": (nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU()), (1, 16, 13, 13)),
    "odd_convolution": (nn.Conv2d(3, 10, 3, stride=2), (1, 3, 15, 15)),
    "depthwise": (nn.Conv2d(12, 12, 3, padding=1, groups=12), (1, 12, 9, 9)),
    "dense": (nn.Linear(64, 10), (1, 64)),
    "pooling": (nn.MaxPool2d(3, 2, ceil_mode=True), (1, 12, 10, 10)),
}


@pytest.fixture(scope="module")
def bench(
    request: pytest.FixtureRequest, emulator: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    target = targets.load(request.param)
    assert target.emulator is not None
    folder = tmp_path_factory.mktemp(target.name)
    with EmulatedDevice(target.emulator.arch, target.emulator.cpu) as device, Builder() as builder:
        yield Bench(builder, device, target, folder)


@pytest.mark.parametrize("bench", ["rasp4", "rasp3-armv7"], indirect=True)
@pytest.mark.parametrize("name", KERNELS)
def test_schedules_are_right_on_the_board(name: str, bench: Bench) -> None:
    model, shape = KERNELS[name]
    for task in tasks_of(model, shape, target=bench.target):
        tried = schedules.candidates(task.func, bench.target)[:3]
        assert tried, task.name
        assert max(bench.errors(task, tried, bench.target)) <= TOLERANCE, task.name

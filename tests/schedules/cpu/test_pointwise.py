"""Packed pointwise convolution: where the rule matches, and that its traces replay."""

from __future__ import annotations

import pytest
import tvm
from kernels import HOST, tasks_of
from torch import nn

from tvm_eff import schedules, targets
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.targets import Target
from tvm_eff.tune import Task

RASP4 = targets.load("rasp4")

NOT_OFFERED = {
    "3x3": (nn.Conv2d(8, 16, 3), (1, 8, 9, 9)),
    "stride": (nn.Conv2d(8, 16, 1, stride=2), (1, 8, 9, 9)),
    "padding": (nn.Conv2d(8, 16, 1, padding=1), (1, 8, 9, 9)),
    "groups": (nn.Conv2d(8, 16, 1, groups=2), (1, 8, 9, 9)),
    "odd_depth": (nn.Conv2d(7, 16, 1), (1, 7, 9, 9)),
    "few_positions": (nn.Conv2d(8, 16, 1), (1, 8, 2, 2)),
    "dense": (nn.Linear(8, 16), (4, 8)),
}


def packed(
    model: nn.Module, shape: tuple[int, ...], target: Target
) -> tuple[Task, list[Candidate]]:
    tasks = tasks_of(model, shape, target=target)
    task = next(each for each in tasks if analysis.contraction(each.func))
    found = schedules.candidates(task.func, target)
    return task, [each for each in found if each.rule == "packed_pointwise"]


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_where_it_is_not_offered(name: str) -> None:
    assert packed(*NOT_OFFERED[name], RASP4)[1] == []


@pytest.mark.parametrize("target", [HOST, targets.load("rasp3-armv7")], ids=lambda t: t.name)
def test_other_processors_do_not_multiply_by_a_lane(target: Target) -> None:
    if target.toolchain.triple.startswith("aarch64"):
        pytest.skip("this machine is a 64-bit ARM")
    assert packed(nn.Conv2d(8, 16, 1), (1, 8, 9, 9), target)[1] == []


@pytest.mark.parametrize("shape", [(1, 8, 9, 9), (2, 8, 5, 7)], ids=str)
def test_trace_replays(shape: tuple[int, ...]) -> None:
    task, candidates = packed(nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU()), shape, RASP4)
    assert candidates
    for candidate in candidates:
        scheduled = schedules.apply(task.func, candidate, RASP4)
        replayed = analysis.schedule(task.func)
        scheduled.trace.apply_to_schedule(replayed, remove_postproc=False)
        tvm.ir.assert_structural_equal(replayed.mod, scheduled.mod)

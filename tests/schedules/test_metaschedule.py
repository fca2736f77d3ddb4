"""MetaSchedule's own space: which kernels use it, and that samples are deterministic."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import tvm
from kernels import HOST, tasks_of
from network_modules import Applied
from torch import nn

from tvm_eff import schedules, targets
from tvm_eff.schedules import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.builder import Builder


def rules(task: Task, target: Target = HOST) -> list[str]:
    return [candidate.rule for candidate in schedules.candidates(task.func, target)]


def largest(model: nn.Module, *shapes: tuple[int, ...]) -> Task:
    return max(tasks_of(model, *shapes), key=lambda task: task.operations)


def sampled(module: str, candidate: Candidate, target: Target) -> str:
    """Return the scheduled function of a candidate; it also runs in a builder's process."""
    return str(schedules.apply(tvm.ir.load_json(module)["main"], candidate, target).mod)


@pytest.mark.parametrize(
    "model",
    [nn.Conv2d(8, 16, 3), nn.Conv2d(8, 8, 3, groups=8), nn.MaxPool2d(2), nn.ReLU()],
    ids=["convolution", "depthwise", "pooling", "elementwise"],
)
def test_what_has_a_rule_is_left_to_it(model: nn.Module) -> None:
    for task in tasks_of(model, (1, 8, 6, 6)):
        assert "metaschedule" not in rules(task)


def test_dense_layers_are_left_to_their_rule() -> None:
    assert "metaschedule" not in rules(largest(nn.Linear(16, 8), (4, 16)))


def test_graphics_processors_are_no_target() -> None:
    softmax = largest(nn.Softmax(1), (4, 40))
    assert "metaschedule" in rules(softmax)
    graphics = replace(HOST, tvm={**HOST.tvm, "kind": "opencl"})
    assert "metaschedule" not in rules(softmax, graphics)


def test_our_schedule_comes_first() -> None:
    assert rules(largest(nn.Softmax(1), (4, 40)))[:3] == ["fallback"] + 2 * ["metaschedule"]
    product = largest(Applied(torch.matmul), (2, 3, 7, 16), (2, 3, 16, 32))
    assert rules(product)[:3] == ["pooling", "metaschedule", "pooling"]


@pytest.mark.parametrize("name", ["host", "rasp4"])
def test_a_seed_is_one_schedule_in_every_process(name: str) -> None:
    target = targets.load(name)
    task = largest(nn.LayerNorm(24), (5, 24))
    found = [c for c in schedules.candidates(task.func, target) if c.rule == "metaschedule"][:6]
    module = tvm.ir.save_json(task.module)
    here = [sampled(module, each, target) for each in found]
    with Builder(workers=2) as builder:
        jobs = [builder.submit(sampled, module, each, target) for each in found]
        assert [job.result() for job in jobs] == here
    assert len(set(here)) == len(here)

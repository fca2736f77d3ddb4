"""A library is built with the candidates that won, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from kernels import HOST, lowered
from torch import nn

from tvm_eff import schedules, tune
from tvm_eff.deploy.library import build_library, schedule_kernels
from tvm_eff.device import LocalDevice
from tvm_eff.errors import BuildError
from tvm_eff.passes import RelaxNetwork
from tvm_eff.schedules import Candidate
from tvm_eff.tensors import relative_error
from tvm_eff.tune import Task

SHAPE = (1, 8, 13, 11)


class Twice(nn.Module):
    """Two convolutions that differ in their weights only, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.other(torch.relu(self.one(x))))


@pytest.fixture
def network() -> tuple[Twice, RelaxNetwork, list[Task]]:
    torch.manual_seed(0)
    model = Twice().eval()
    imported = lowered(model, SHAPE)
    return model, imported, tune.extract(imported.mod)


def chosen(tasks: list[Task], *rules: str) -> dict[str, Candidate]:
    """The first candidate of every kernel by the first of some rules that it has."""
    found = {}
    for task in tasks:
        first = {c.rule: c for c in reversed(schedules.candidates(task.func, HOST))}
        rule = next((each for each in rules if each in first), None)
        found[task.workload] = schedules.UNSCHEDULED if rule is None else first[rule]
    return found


def names(mod: tvm.IRModule) -> list[str]:
    return [str(variable.name_hint) for variable in mod.get_global_vars()]


def test_kernels_that_are_scheduled_as_they_are_stay(
    network: tuple[Twice, RelaxNetwork, list[Task]],
) -> None:
    _, imported, tasks = network
    scheduled = schedule_kernels(imported.mod, chosen(tasks, "register_tile"), HOST)
    assert set(names(scheduled)) == set(names(imported.mod))


def test_another_function_of_the_same_result_is_built_and_right(
    network: tuple[Twice, RelaxNetwork, list[Task]], tmp_path: Path
) -> None:
    model, imported, tasks = network
    winners = chosen(tasks, "winograd", "register_tile", "elementwise")
    used = names(schedule_kernels(imported.mod, winners, HOST))
    assert sum("winograd" in name and "weight" not in name for name in used) == 1
    assert sum("winograd" in name and "weight" in name for name in used) == 1

    library = tmp_path / "model.so"
    build_library(imported, winners, HOST, library)
    x = np.random.default_rng(0).standard_normal(SHAPE).astype("float32")
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    with LocalDevice() as device:
        (actual,), _ = device.run(library, [x])
    assert relative_error(actual, expected) < 2e-6


def test_kernel_without_a_winner_is_named(
    network: tuple[Twice, RelaxNetwork, list[Task]], tmp_path: Path
) -> None:
    _, imported, tasks = network
    winners = chosen(tasks, "register_tile")
    del winners[tasks[0].workload]
    with pytest.raises(BuildError, match=f"nothing is on record of .*{tasks[0].name}"):
        build_library(imported, winners, HOST, tmp_path / "model.so")
    assert not (tmp_path / "model.so").exists()


def test_winner_that_does_not_fit_is_named(
    network: tuple[Twice, RelaxNetwork, list[Task]], tmp_path: Path
) -> None:
    _, imported, tasks = network
    winners = {**chosen(tasks, "register_tile"), tasks[0].workload: Candidate("no_rule", ())}
    with pytest.raises(BuildError, match=f"{tasks[0].name} cannot be scheduled.*'no_rule'"):
        build_library(imported, winners, HOST, tmp_path / "model.so")

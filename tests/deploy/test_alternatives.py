"""A library is built with another function of the same result where that is on record as faster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from kernels import HOST, lowered
from torch import nn

from tvm_eff import schedules, tune
from tvm_eff.deploy.alternatives import use_fastest
from tvm_eff.deploy.library import build_library
from tvm_eff.device import LocalDevice
from tvm_eff.passes import RelaxNetwork
from tvm_eff.tensors import relative_error
from tvm_eff.tune import Record, RecordStore, Task

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


def put(store: RecordStore, task: Task, candidate: schedules.Candidate, value: float) -> None:
    func = schedules.rewritten(task.func, candidate)
    record = Record(task.workload, task.name, candidate, "seconds", (value,), error=0.0)
    store.add(record)
    scheduled = schedules.apply(task.func, candidate, HOST)
    store.commit(Task(task.name, func, task.calls), record, scheduled)


def recorded(folder: Path, tasks: list[Task], winograd: float, direct: float) -> RecordStore:
    """Records of the first candidate of each rule, with made-up values."""
    store = RecordStore(folder, HOST, "seconds")
    for task in tasks:
        first = {c.rule: c for c in reversed(schedules.candidates(task.func, HOST))}
        for rule, candidate in first.items():
            put(store, task, candidate, winograd if rule == "winograd" else direct)
    return store


def names(mod: tvm.IRModule) -> list[str]:
    return [str(variable.name_hint) for variable in mod.get_global_vars()]


def test_what_is_on_record_as_slower_is_left_alone(
    network: tuple[Twice, RelaxNetwork, list[Task]], tmp_path: Path
) -> None:
    _, imported, tasks = network
    store = recorded(tmp_path, tasks, winograd=2.0, direct=1.0)
    assert use_fastest(imported.mod, store.database, HOST) is imported.mod


def test_the_faster_function_is_built_and_right(
    network: tuple[Twice, RelaxNetwork, list[Task]], tmp_path: Path
) -> None:
    model, imported, tasks = network
    store = recorded(tmp_path, tasks, winograd=1.0, direct=2.0)
    used = names(use_fastest(imported.mod, store.database, HOST))
    assert any("winograd" in name for name in used)

    library = tmp_path / "model.so"
    build_library(imported, tasks, store.database, HOST, library)
    x = np.random.default_rng(0).standard_normal(SHAPE).astype("float32")
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    with LocalDevice() as device:
        (actual,), _ = device.run(library, [x])
    assert relative_error(actual, expected) < 2e-6


def test_records_are_read_again(
    network: tuple[Twice, RelaxNetwork, list[Task]], tmp_path: Path
) -> None:
    _, imported, tasks = network
    recorded(tmp_path, tasks, winograd=1.0, direct=2.0)
    store = RecordStore(tmp_path, HOST, "seconds")
    assert any("winograd" in n for n in names(use_fastest(imported.mod, store.database, HOST)))

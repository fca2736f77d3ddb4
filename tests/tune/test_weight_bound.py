"""Among measured candidates, the cheapest ones whose weights are small enough together."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
from kernels import HOST, tasks_of
from torch import nn

from tvm_eff import schedules, tune
from tvm_eff.device import LocalDevice
from tvm_eff.schedules import Candidate
from tvm_eff.tune import Record, RecordStore, Task, TaskResult, TuneOptions

ONE_THREAD = LocalDevice(threads=1)
"""Never opened."""
UNMEASURED = TuneOptions(measure=False)


class Convolutions(nn.Module):
    """Kernels that Winograd's algorithm may compute; one is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(16, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.third = nn.Conv2d(16, 32, 3, padding=1)
        self.fourth = nn.Conv2d(32, 48, 3, padding=1)

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.second(self.first(x).relu()).relu()
        return self.fourth(self.third(x).relu()).relu()


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    found = tasks_of(Convolutions(), (1, 16, 14, 14))
    return [each for each in found if any(map(schedules.transforms_weight, plan(each)))]


def plan(task: Task) -> list[Candidate]:
    return schedules.candidates(task.func, HOST)


def some(task: Task, count: int, *, transformed: bool) -> list[Candidate]:
    """Return the first candidates of a kind, those of other sizes first."""
    found = [each for each in plan(task) if schedules.transforms_weight(each) == transformed]
    by_size = {schedules.added_weight_bytes(task.func, each): each for each in found}
    return list(dict.fromkeys([*by_size.values(), *found]))[:count]


def record(store: RecordStore, task: Task, candidate: Candidate, value: float) -> Record:
    made = store.generation(candidate)
    identity = ONE_THREAD.identity
    found = Record(task.workload, task.name, candidate, "seconds", (value,), identity, made)
    store.add(found)
    return found


def store_of(logs: Path) -> RecordStore:
    return RecordStore(logs, HOST, "seconds", ONE_THREAD.identity)


def results_of(tasks: list[Task], store: RecordStore) -> list[TaskResult]:
    return tune.tune(tasks, HOST, ONE_THREAD, store, UNMEASURED)


def cost(results: list[TaskResult]) -> float:
    return sum(each.value * each.task.calls for each in results)


@pytest.mark.parametrize("seed", range(4))
def test_no_choice_within_the_bound_is_cheaper(
    tasks: list[Task], tmp_path: Path, seed: int
) -> None:
    assert len(tasks) == 3
    assert max(each.calls for each in tasks) == 2
    chance, store = random.Random(seed), store_of(tmp_path)
    records = {
        task.name: [
            record(store, task, each, chance.uniform(*span))
            for transformed, span in ((True, (1.0, 2.0)), (False, (1.5, 4.0)))
            for each in some(task, 3, transformed=transformed)
        ]
        for task in tasks
    }
    fastest = results_of(tasks, store)
    sizes = {
        (task.name, each.candidate): task.calls
        * schedules.added_weight_bytes(task.func, each.candidate)
        for task in tasks
        for each in records[task.name]
    }
    everything = [
        (
            sum(sizes[task.name, each.candidate] for task, each in zip(tasks, chosen, strict=True)),
            sum(task.calls * each.value for task, each in zip(tasks, chosen, strict=True)),
        )
        for chosen in itertools.product(*(records[task.name] for task in tasks))
    ]
    largest = tune.added_bytes(fastest)
    for most in (0, largest // 4, largest // 2, largest - 1, largest, 2 * largest):
        found = tune.within_bound(fastest, store, HOST, most)
        assert found is not None
        assert tune.added_bytes(found) <= most
        assert cost(found) == pytest.approx(min(c for size, c in everything if size <= most))
        assert [each.task for each in found] == tasks
        assert all(each.best and each.best.candidate == each.candidate for each in found)
    assert tune.within_bound(fastest, store, HOST, largest) == fastest
    assert tune.within_bound(fastest, store, HOST, -1) is None


def test_where_only_transformed_ones_were_measured(tasks: list[Task], tmp_path: Path) -> None:
    store = store_of(tmp_path)
    for task in tasks:
        record(store, task, schedules.UNSCHEDULED, 100.0)
        record(store, task, some(task, 1, transformed=True)[0], 1.0)
    found = tune.within_bound(results_of(tasks, store), store, HOST, 0)
    assert found is not None
    for each in found:
        assert each.candidate != schedules.UNSCHEDULED
        assert not schedules.transforms_weight(each.candidate)
        assert (each.best, each.is_prior) == (None, False)


def test_where_nothing_was_measured(tasks: list[Task], tmp_path: Path) -> None:
    store = store_of(tmp_path)
    first = results_of(tasks, store)
    added = tune.added_bytes(first)
    assert added > 0
    assert tune.within_bound(first, store, HOST, added) == first
    plain = tune.within_bound(first, store, HOST, 0)
    assert plain is not None
    assert tune.added_bytes(plain) == 0
    assert schedules.UNSCHEDULED not in {each.candidate for each in plain}


def test_a_few_plain_ones_are_measured_where_others_are_known_to_win(
    tasks: list[Task], tmp_path: Path
) -> None:
    """Records that ship have the winners alone."""

    class Listener:
        heard: list[Candidate] = []

        def started(self, total: int, to_measure: int, rechecked: int) -> None:
            pass

        def measured(self, task: Task, record: Record, best: Record | None) -> None:
            self.heard.append(record.candidate)

    task = max(tasks, key=lambda each: each.calls)
    theirs = replace(ONE_THREAD.identity, name="another machine")
    others = RecordStore(tmp_path, HOST, "seconds", theirs)
    transformed = some(task, 4, transformed=True)
    plain = some(task, 2, transformed=False)
    for value, each in enumerate([*transformed, plain[1], plain[0], schedules.UNSCHEDULED]):
        found = record(store_of(tmp_path / "other"), task, each, 1e-6 * (1 + value))
        others.add(replace(found, machine=theirs))
    with LocalDevice(threads=1) as device:
        store = RecordStore(tmp_path, HOST, "seconds", device.identity)
        options = TuneOptions(trials=1, workers=1)
        (result,) = tune.tune([task], HOST, device, store, options, Listener())
        assert all(map(schedules.transforms_weight, Listener.heard))
        Listener.heard.clear()

        wanted = replace(options, plain_weights=True)
        tune.tune([task], HOST, device, store, wanted, Listener())
        assert Listener.heard[:2] == [plain[1], plain[0]]
        assert not any(map(schedules.transforms_weight, Listener.heard))
        bounded = tune.within_bound([result], store, HOST, 0)
        assert bounded is not None
        assert bounded[0].best is not None
        assert bounded[0].candidate in Listener.heard

        Listener.heard.clear()
        tune.tune([task], HOST, device, store, wanted, Listener())
        assert Listener.heard == []

"""A session: nothing measured twice, nothing wrong wins, nothing is left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from kernels import HOST, lowered
from torch import nn
from tvm.s_tir import meta_schedule as ms

from tvm_eff import schedules, tune
from tvm_eff.deploy.library import build_library
from tvm_eff.device import Device, LocalDevice
from tvm_eff.errors import RecordError
from tvm_eff.passes import RelaxNetwork
from tvm_eff.schedules import Candidate
from tvm_eff.tensors import TOLERANCE, relative_error
from tvm_eff.tune import Record, RecordStore, Task, TaskResult, TuneOptions
from tvm_eff.tune.records.database import WINNERS
from tvm_eff.tune.records.store import MEASUREMENTS, RECORDS, WORKLOADS
from tvm_eff.tune.task_scheduler import INITIAL_TRIALS
from tvm_eff.tune.tie_break import CLOSE, ROUNDS

OPTIONS = TuneOptions(trials=2, workers=2)
ONE_THREAD = LocalDevice(threads=1)
"""Never opened."""


class Listener:
    """Counts what it hears; interrupts after some candidates if asked to."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.total = self.to_measure = -1
        self.heard: list[Record] = []
        self._interrupt_after = interrupt_after

    def started(self, total: int, to_measure: int, rechecked: int) -> None:
        self.total, self.to_measure = total, to_measure

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        self.heard.append(record)
        if len(self.heard) == self._interrupt_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 6, 1),
        nn.Flatten(),
        # No rule matches it. Of 288 values, LLVM takes minutes for a candidate of MetaSchedule.
        nn.Softmax(1),
    ).eval()


@pytest.fixture(scope="module")
def network(model: nn.Module) -> RelaxNetwork:
    return lowered(model, (1, 8, 12, 12))


@pytest.fixture(scope="module")
def tasks(network: RelaxNetwork) -> list[Task]:
    return tune.extract(network.mod)


@pytest.fixture
def device() -> Iterator[LocalDevice]:
    with LocalDevice(threads=1) as opened:
        yield opened


def tuned(
    tasks: list[Task], logs: Path, device: Device, listener: Listener | None = None
) -> list[TaskResult]:
    return tune.tune(tasks, HOST, device, store_of(logs, device), OPTIONS, listener)


def store_of(logs: Path, device: Device = ONE_THREAD) -> RecordStore:
    return RecordStore(logs, HOST, "seconds", device.identity)


def lines(logs: Path, *, compared: bool = False) -> Counter[str]:
    """Count the measurements of each candidate of each kernel by itself, or side by side."""
    (path,) = logs.glob(f"*/seconds/{MEASUREMENTS}")
    records = map(json.loads, path.read_text().splitlines())
    return Counter(
        f"{each['workload']} {each['candidate']}"
        for each in records
        if each["kind"] == "measurement" and (len(each["values"]) >= ROUNDS) == compared
    )


def builders() -> list[psutil.Process]:
    """Return the builder processes: children of the server they are forked from."""
    return [
        grandchild
        for child in psutil.Process().children()
        if "forkserver" in " ".join(child.cmdline())
        for grandchild in child.children(recursive=True)
    ]


@pytest.fixture(scope="module")
def finished(
    tasks: list[Task], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Listener, Listener]:
    """A session that was interrupted in its third candidate, then resumed to the end."""
    logs = tmp_path_factory.mktemp("logs")
    first, second = Listener(interrupt_after=3), Listener()
    with LocalDevice(threads=1) as device:
        with pytest.raises(KeyboardInterrupt):
            tuned(tasks, logs, device, first)
        assert builders() == []
        tuned(tasks, logs, device, second)
        assert builders() == []
    return logs, first, second


def test_nothing_is_measured_twice(finished: tuple[Path, Listener, Listener]) -> None:
    logs, first, second = finished
    assert first.to_measure == first.total == second.total
    assert second.to_measure == second.total - 3 == len(second.heard)
    assert set(lines(logs).values()) == {1}
    assert sum(lines(logs).values()) == second.total


def test_complete_records_are_not_measured_again(
    finished: tuple[Path, Listener, Listener], tasks: list[Task]
) -> None:
    logs = finished[0]
    before = {path: path.read_bytes() for path in logs.rglob("*.json*")}
    listener = Listener()
    # Never opened: the session has nothing to ask it.
    results = tuned(tasks, logs, ONE_THREAD, listener)
    assert (listener.to_measure, listener.heard) == (0, [])
    assert {path: path.read_bytes() for path in logs.rglob("*.json*")} == before
    for result in results:
        assert result.best is not None and result.before is not None
        assert result.best.value <= result.before.value
        assert result.failed == 0


def test_the_winner_was_compared_with_what_is_close(
    finished: tuple[Path, Listener, Listener], tasks: list[Task]
) -> None:
    store = store_of(finished[0])
    for task in tasks:
        plan = [schedules.UNSCHEDULED, *schedules.candidates(task.func, HOST)[:2]]
        found = [record for c in plan if (record := store.find(task.workload, c))]
        best = min(found, key=lambda record: record.value)
        close = [record for record in found if record.value <= CLOSE * best.value]
        assert len(close) == 1 or len(best.values) == ROUNDS
        assert written(finished[0])[task.workload] == (best.candidate, best.value)


def test_winner_that_was_only_lucky_loses_its_place(
    finished: tuple[Path, Listener, Listener], tasks: list[Task], tmp_path: Path
) -> None:
    copy_records(finished[0], tmp_path)
    store = store_of(tmp_path)
    task = tasks[0]
    before = store.best(task.workload)
    assert before is not None
    other = next(c for c in schedules.candidates(task.func, HOST)[:2] if c != before.candidate)
    for candidate, value in ((before.candidate, 1.0), (schedules.UNSCHEDULED, 1.0), (other, 0.5)):
        made = store.generation(candidate)
        store.add(replace(before, candidate=candidate, values=(value,), generation=made))

    # Never opened: nothing is left to measure.
    results = tune.tune(tasks, HOST, ONE_THREAD, store, OPTIONS)

    assert (results[0].candidate, results[0].value) == (other, 0.5)
    assert written(tmp_path)[task.workload] == (other, 0.5)
    scheduled = replace(task, func=schedules.rewritten(task.func, other))
    stock = ms.database.JSONDatabase(str(store.folder / WORKLOADS), str(store.folder / RECORDS))
    found = stock.query_schedule(scheduled.module, HOST.tvm_target(), "main")
    assert str(found.trace) == str(schedules.apply(task.func, other, HOST).trace)


def written(logs: Path) -> dict[str, tuple[Candidate, float]]:
    """Return the winners that are named beside MetaSchedule's database."""
    (path,) = logs.glob(f"*/seconds/{WINNERS}")
    found = {}
    for workload, line in json.loads(path.read_text()).items():
        scheduled, rule, value = (line.pop(key) for key in ("scheduled", "rule", "value"))
        assert scheduled
        found[workload] = (Candidate.of(rule, line), value)
    return found


def copy_records(logs: Path, folder: Path) -> None:
    for path in logs.rglob("*.json*"):
        copy = folder / path.relative_to(logs)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())


def test_more_trials_measure_only_what_is_new(
    finished: tuple[Path, Listener, Listener], tasks: list[Task], tmp_path: Path
) -> None:
    logs, _, second = finished
    copy_records(logs, tmp_path)
    listener = Listener()
    store = store_of(tmp_path)
    with LocalDevice(threads=1) as device:
        tune.tune(tasks, HOST, device, store, TuneOptions(trials=3, workers=2), listener)
    assert 0 < listener.to_measure == listener.total - second.total
    assert set(lines(tmp_path).values()) == {1}


def test_spent_budget_leaves_every_kernel_with_its_first_candidates(
    tasks: list[Task], network: RelaxNetwork, device: LocalDevice, tmp_path: Path
) -> None:
    store = store_of(tmp_path)
    listener = Listener()
    options = TuneOptions(trials=12, workers=2, budget=0.01)
    results = tune.tune(tasks, HOST, device, store, options, listener)
    assert len(listener.heard) < listener.to_measure
    for result in results:
        available = len(schedules.candidates(result.task.func, HOST)[:12]) + 1
        assert result.measured == min(INITIAL_TRIALS, available)
    build_library(network, tune.winners(results), HOST, tmp_path / "model.so")


@pytest.mark.parametrize("lost", [[RECORDS, WINNERS], [WORKLOADS, RECORDS, WINNERS]])
def test_winners_that_were_measured_but_not_written(
    lost: list[str],
    finished: tuple[Path, Listener, Listener],
    tasks: list[Task],
    tmp_path: Path,
) -> None:
    # As a crash before the end of a session leaves it, for every kernel at once.
    copy_records(finished[0], tmp_path)
    wanted = written(finished[0])
    for path in tmp_path.rglob("*.json"):
        if path.name in lost:
            path.unlink()
    results = tune.tune(tasks, HOST, ONE_THREAD, store_of(tmp_path), OPTIONS)
    assert written(tmp_path) == wanted
    assert {each.task.workload: each.candidate for each in results} == tune.winners(results)


def test_the_library_computes_what_pytorch_computes(
    finished: tuple[Path, Listener, Listener],
    tasks: list[Task],
    network: RelaxNetwork,
    model: nn.Module,
    device: LocalDevice,
    tmp_path: Path,
) -> None:
    library = tmp_path / "model.so"
    results = tune.tune(tasks, HOST, device, store_of(finished[0]), OPTIONS)
    build_library(network, tune.winners(results), HOST, library)
    x = np.random.default_rng(0).standard_normal((1, 8, 12, 12)).astype("float32")
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    (actual,), _ = device.run(library, [x])
    assert relative_error(actual, wanted) <= TOLERANCE


def test_full_disk_is_told_before_the_search(tasks: list[Task], tmp_path: Path) -> None:
    store = store_of(tmp_path)
    listener = Listener()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        # Never opened: it would be an error to ask the device first.
        with pytest.raises(RecordError, match=f"log folder {store.folder}: .*; make room"):
            tune.tune(tasks, HOST, ONE_THREAD, store, OPTIONS, listener)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert listener.heard == []
    assert {path.name for path in store.folder.iterdir()} <= {".lock"}


def test_ctrl_c_while_a_candidate_hangs(tmp_path: Path) -> None:
    # The kernel as imported and two traps are on record before the one that hangs.
    with sabotaged(tmp_path, "1", "600") as session:
        while not list(tmp_path.rglob(MEASUREMENTS)) or sum(lines(tmp_path).values()) < 3:
            assert session.poll() is None
            time.sleep(0.05)
        time.sleep(0.2)
        assert_ends_on_ctrl_c(session)
    assert sum(lines(tmp_path).values()) == 3


def test_ctrl_c_while_a_build_hangs(tmp_path: Path) -> None:
    with sabotaged(tmp_path, "6", "600") as session:
        assert session.stderr is not None
        # What comes before it are warnings.
        assert "the build hangs\n" in iter(session.stderr.readline, "")
        assert_ends_on_ctrl_c(session)


PRELOADING = """
import time
from tvm_eff import tune
tune.preload()
print("importing", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_while_the_workers_server_imports_prints_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PRELOADING],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "importing\n"
        time.sleep(0.5)
        servers = psutil.Process(session.pid).children(recursive=True)
        assert servers
        # As a terminal does, to all of them.
        os.killpg(session.pid, signal.SIGINT)
        printed, errors = session.communicate()
    assert printed == "interrupted\n"
    assert "Traceback" not in errors
    assert not psutil.wait_procs(servers, timeout=20)[1]


def sabotaged(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("faulty_rule.py"), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_ends_on_ctrl_c(session: subprocess.Popen[str]) -> None:
    children = psutil.Process(session.pid).children(recursive=True)
    began = time.monotonic()
    session.send_signal(signal.SIGINT)
    _, errors = session.communicate()
    assert time.monotonic() - began < 2
    assert "KeyboardInterrupt" in errors
    assert not psutil.wait_procs(children, timeout=2)[1]


def test_traps_are_failures_with_their_reason_and_never_win(tmp_path: Path) -> None:
    reasons = [
        "wrong result: it differs from the reference by ",
        "it crashed",
        "no answer within 3 s",
        "it crashed",
        "does not apply: the loop is not there",
        "the build crashed",
        "the build took longer than 10 s",
        "memory",
    ]
    with sabotaged(tmp_path) as session:
        printed, errors = session.communicate(timeout=240)
    assert session.returncode == 0, errors
    assert json.loads(printed) == {"trap": len(reasons), "failed": len(reasons)}

    (path,) = tmp_path.glob(f"*/seconds/{MEASUREMENTS}")
    every = map(json.loads, path.read_text().splitlines())
    records = [each for each in every if each["kind"] == "measurement"]
    traps = {each["candidate"].get("trap"): each for each in records if "failure" in each}
    assert sorted(traps) == list(range(len(reasons)))
    for trap, reason in enumerate(reasons):
        assert reason in traps[trap]["failure"]
        assert traps[trap]["values"] == []
    # None of them is in what the product is built from.
    ((winner, value),) = written(tmp_path).values()
    assert winner.as_dict()["trap"] == len(reasons)
    # What was measured again counts as it was then.
    last = {str(each["candidate"]): sorted(each["values"]) for each in records}
    measured = [each[len(each) // 2] for each in last.values() if each]
    assert value == min(measured)

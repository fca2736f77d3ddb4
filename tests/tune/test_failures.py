"""Whose fault is it? Only what is a candidate's own is on record."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernels import HOST, small_convolution
from typing_extensions import override

from tvm_eff import schedules, tune
from tvm_eff.device import LocalDevice, Measurement, MeasureOptions
from tvm_eff.errors import (
    BuildError,
    DeviceError,
    ExecutionError,
    InterruptedExecutionError,
    RecordError,
    SetupError,
    UnsuitableDeviceError,
)
from tvm_eff.tensors import TensorSpec
from tvm_eff.tune import RecordStore, TuneOptions
from tvm_eff.tune.builder import Job
from tvm_eff.tune.control import MOST_UNCONFIRMED
from tvm_eff.tune.records import json_lines
from tvm_eff.tune.records.store import MEASUREMENTS

OPTIONS = TuneOptions(trials=4, workers=2)


class TroubledDevice(LocalDevice):
    """A machine on which some calls come to grief that are not the code's fault."""

    def __init__(self, trouble: Sequence[type[Exception] | None], *, then: bool = False) -> None:
        super().__init__(threads=1)
        self._trouble = list(trouble)
        self._then = then
        self.calls = 0

    @override
    def call(
        self,
        library: Path,
        symbol: str,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[TensorSpec],
        *,
        measure: MeasureOptions | None = None,
        keep: bool = False,
    ) -> tuple[list[np.ndarray], Measurement | None]:
        if "peak" not in library.name:
            self.calls += 1
            if self._then or self.calls <= len(self._trouble):
                kind = self._trouble[min(self.calls, len(self._trouble)) - 1]
                if kind is not None:
                    raise kind("no answer within 60 s")
        return super().call(library, symbol, inputs, outputs, measure=measure, keep=keep)


def session(logs: Path, device: LocalDevice, options: TuneOptions = OPTIONS) -> tune.TaskResult:
    with device:
        records = RecordStore(logs, HOST, "seconds", device.identity)
        (result,) = tune.tune([small_convolution()], HOST, device, records, options)
    return result


def on_record(logs: Path) -> list[dict[str, Any]]:
    found = list(logs.glob(f"*/seconds/{MEASUREMENTS}"))
    lines = [json.loads(line) for path in found for line in path.read_text().splitlines()]
    return [each for each in lines if each["kind"] == "measurement"]


def test_what_hangs_once_is_measured_again(tmp_path: Path) -> None:
    device = TroubledDevice([None, InterruptedExecutionError, None, InterruptedExecutionError])
    result = session(tmp_path, device)
    assert result.failed == 0
    assert all("failure" not in each for each in on_record(tmp_path))


def test_what_fails_twice_beside_what_works_is_on_record(tmp_path: Path) -> None:
    failing = InterruptedExecutionError
    # The kernel as imported works; the first candidate fails twice; then what worked works.
    result = session(tmp_path, TroubledDevice([None, failing, failing, None]))
    assert result.failed == 1
    assert [each["failure"] for each in on_record(tmp_path) if "failure" in each] == [
        "no answer within 60 s"
    ]


def test_nothing_is_on_record_when_what_worked_fails_too(tmp_path: Path) -> None:
    device = TroubledDevice([None, InterruptedExecutionError], then=True)
    with pytest.raises(DeviceError, match=r"what had worked before failed as well"):
        session(tmp_path, device)
    assert [each.get("failure") for each in on_record(tmp_path)] == [None]
    # With the trouble gone, the same command does it all.
    assert session(tmp_path, LocalDevice(threads=1)).failed == 0


def test_when_nothing_works_nothing_is_on_record(tmp_path: Path) -> None:
    plan = schedules.candidates(small_convolution().func, HOST)
    options = TuneOptions(trials=len(plan), workers=2)
    device = TroubledDevice([InterruptedExecutionError], then=True)
    expected = DeviceError if len(plan) >= MOST_UNCONFIRMED else ExecutionError
    with pytest.raises(expected, match=r"no answer within 60 s|nothing was measured"):
        session(tmp_path, device, options)
    assert on_record(tmp_path) == []
    assert session(tmp_path, LocalDevice(threads=1)).failed == 0


def test_a_device_that_cannot_run_the_target_ends_the_session(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableDeviceError):
        session(tmp_path, TroubledDevice([UnsuitableDeviceError], then=True))
    assert on_record(tmp_path) == []


def measured_once(logs: Path) -> int:
    """How many candidates are on record, without those that were compared in turns again."""
    return sum(len(each["values"]) < 7 for each in on_record(logs))


def test_failed_candidates_are_tried_again_if_asked_to(tmp_path: Path) -> None:
    failing = InterruptedExecutionError
    assert session(tmp_path, TroubledDevice([None, failing, failing, None])).failed == 1
    before, lines = measured_once(tmp_path), len(on_record(tmp_path))
    assert session(tmp_path, LocalDevice(threads=1)).failed == 1
    assert len(on_record(tmp_path)) == lines
    options = TuneOptions(trials=4, workers=2, retry_failed=True)
    assert session(tmp_path, LocalDevice(threads=1), options).failed == 0
    assert measured_once(tmp_path) == before + 1


def test_where_nothing_has_worked_all_is_tried_again(tmp_path: Path) -> None:
    task = small_convolution()
    with LocalDevice(threads=1) as device:
        store = RecordStore(tmp_path, HOST, "seconds", device.identity)
        for candidate in [schedules.UNSCHEDULED, *schedules.candidates(task.func, HOST)[:4]]:
            store.add(
                tune.Record(
                    workload=task.workload,
                    task=task.name,
                    candidate=candidate,
                    unit="seconds",
                    values=(),
                    machine=device.identity,
                    generation=store.generation(candidate),
                    failure="it crashed: the process that ran it ended",
                )
            )
    assert session(tmp_path, LocalDevice(threads=1)).failed == 0


def test_a_value_that_nobody_can_have_measured(tmp_path: Path) -> None:
    task = small_convolution()
    with LocalDevice(threads=1) as device:
        store = RecordStore(tmp_path, HOST, "seconds", device.identity)
        store.add(
            tune.Record(
                workload=task.workload,
                task=task.name,
                candidate=schedules.UNSCHEDULED,
                unit="seconds",
                values=(1e-10,),
                machine=device.identity,
                generation=store.generation(schedules.UNSCHEDULED),
            )
        )
    with pytest.raises(RecordError, match=rf"{MEASUREMENTS}: 1e-10 seconds .* nobody measured"):
        session(tmp_path, LocalDevice(threads=1))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x"),
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        BuildError("ld.lld ... failed:\nerror: failed to write output: No space left on device"),
    ],
)
def test_a_build_without_room_is_no_failure_of_the_candidate(error: Exception) -> None:
    future: Future[object] = Future()
    future.set_exception(error)
    with pytest.raises(SetupError, match=r"temporary folder .*; make room"):
        Job(future, 1.0).result()


def test_a_full_temporary_folder_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Job) -> None:
        raise SetupError("candidates cannot be built: No space left on device")

    monkeypatch.setattr(Job, "result", full)
    with pytest.raises(SetupError, match="No space left"):
        session(tmp_path, LocalDevice(threads=1))
    assert on_record(tmp_path) == []


@pytest.fixture
def other_session(tmp_path: Path) -> Iterator[threading.Event]:
    """Another session that measures for the same folder, until the event is set."""
    folder = tmp_path / HOST.log_name / "seconds"
    folder.mkdir(parents=True)
    began, end = threading.Event(), threading.Event()

    def measure() -> None:
        with json_lines.only_session(folder):
            began.set()
            end.wait(60)

    thread = threading.Thread(target=measure)
    thread.start()
    began.wait()
    yield end
    end.set()
    thread.join()


def test_a_second_session_waits_and_finds_what_the_first_measured(
    other_session: threading.Event, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "elsewhere"
    session(elsewhere, LocalDevice(threads=1))
    (measured,) = elsewhere.glob(f"*/seconds/{MEASUREMENTS}")
    results = []

    def second() -> None:
        results.append(session(tmp_path, LocalDevice(threads=1)))

    thread = threading.Thread(target=second)
    thread.start()
    end = time.monotonic() + 30
    while "another session measures" not in caplog.text:
        assert time.monotonic() < end
        time.sleep(0.05)
    # What the first one found.
    shared = tmp_path / HOST.log_name / "seconds" / MEASUREMENTS
    shared.write_bytes(measured.read_bytes())
    before = len(on_record(tmp_path))
    other_session.set()
    thread.join(60)
    assert [each.failed for each in results] == [0]
    assert len(on_record(tmp_path)) == before

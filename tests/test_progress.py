"""What is shown while a compilation runs: how far it is, the best so far, what is left."""

from __future__ import annotations

import math

import pytest
from kernels import small_convolution

from tvm_eff import schedules, targets
from tvm_eff.device import MachineIdentity
from tvm_eff.progress import RichProgress
from tvm_eff.tune import Record
from tvm_eff.tune.records.generation import generation_of


def record(value: float) -> Record:
    candidate = schedules.UNSCHEDULED
    return Record(
        workload="1",
        task="kernel",
        candidate=candidate,
        unit="seconds",
        values=(value,),
        machine=MachineIdentity("Linux"),
        generation=generation_of(candidate, targets.load("host")),
    )


def shown(capsys: pytest.CaptureFixture[str], budget: float = math.inf) -> str:
    task = small_convolution()
    with RichProgress(budget=budget) as progress:
        progress.step("importing net")
        progress.started(10, 7, 0)
        progress.measured(task, record(2e-3), record(1.5e-3))
        progress.measured(task, record(2e-3), record(1.5e-3))
        assert progress.measured_now == 2
        assert ("of the budget left" in progress._left()) == (budget < math.inf)
    return capsys.readouterr().err


def test_a_log_has_a_line_for_each_step_and_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys)
    assert "importing net" in text
    assert "10 candidates, 3 of them on record, 7 to measure" in text
    assert text.count("measuring conv 3x3") == 1
    assert "best 1.500 ms" in text


def test_what_is_left_of_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    shown(capsys, budget=90.0)

"""The public functions of the design spaces, and how a rule is added."""

from __future__ import annotations

from pathlib import Path

import pytest
import tvm
from kernels import HOST, small_convolution, tasks_of
from softmax_rule import Softmax
from torch import nn

from tvm_eff import schedules, targets
from tvm_eff.codegen import build_kernel
from tvm_eff.device import LocalDevice
from tvm_eff.errors import SpaceError
from tvm_eff.schedules import Candidate, analysis, registry
from tvm_eff.tensors import random_inputs, relative_error
from tvm_eff.tune import Task, worker
from tvm_eff.tune.checker import TOLERANCE

ONE_OF_EACH_RULE = {
    "register_tile": (nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()), (1, 8, 6, 6)),
    "winograd": (nn.Conv2d(8, 16, 3, padding=1, bias=False), (1, 8, 6, 6)),
    "depthwise": (nn.Conv2d(16, 16, 3, groups=16), (1, 16, 7, 7)),
    "pooling": (nn.MaxPool2d(3, 2), (1, 16, 9, 9)),
    "elementwise": (nn.Sigmoid(), (1, 16, 5)),
    "fallback": (nn.Softmax(1), (4, 40)),
    "metaschedule": (nn.LayerNorm(40), (4, 40)),
}


def task_of(rule: str) -> Task:
    model, shape = ONE_OF_EACH_RULE[rule]
    for task in tasks_of(model, shape):
        if any(c.rule == rule for c in schedules.candidates(task.func, HOST)):
            return task
    raise AssertionError(f"{rule} matches nothing of its own example")


def test_rule_of_another_version() -> None:
    unknown = Candidate.of("winograd_9x9", {"tile": 4})
    with pytest.raises(SpaceError, match=r"'winograd_9x9'.*another version"):
        schedules.apply(small_convolution().func, unknown, HOST)
    with pytest.raises(SpaceError, match="winograd_9x9"):
        schedules.packings(small_convolution().func, unknown)


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate.of("register_tile", {"rows": 2, "columns": 16}),
        Candidate.of("depthwise", {"rows": 2, "columns": 16, "lanes": 16}),
        Candidate.of("pooling", {"columns": 16, "lanes": 16}),
    ],
    ids=str,
)
def test_candidate_that_does_not_fit_the_function(candidate: Candidate) -> None:
    func = task_of("elementwise").func
    with pytest.raises(SpaceError, match=f"{candidate.rule}.*does not apply"):
        schedules.apply(func, candidate, HOST)


@pytest.mark.parametrize("rule", ONE_OF_EACH_RULE)
def test_apply_leaves_the_function_alone(rule: str) -> None:
    # TVM 0.27 applies some primitives in place.
    task = task_of(rule)
    before = task.func.script()
    for candidate in schedules.candidates(task.func, HOST)[:4]:
        schedules.apply(task.func, candidate, HOST)
        assert task.func.script() == before


@pytest.mark.parametrize("name", ["host", "rasp4", "rasp3-armv7"])
@pytest.mark.parametrize("rule", ONE_OF_EACH_RULE)
def test_trace_replays(rule: str, name: str) -> None:
    task, target = task_of(rule), targets.load(name)
    for candidate in schedules.candidates(task.func, target)[:4]:
        scheduled = schedules.apply(task.func, candidate, target)
        replayed = analysis.schedule(schedules.rewritten(task.func, candidate))
        scheduled.trace.apply_to_schedule(replayed, remove_postproc=False)
        tvm.ir.assert_structural_equal(replayed.mod, scheduled.mod)


@pytest.mark.parametrize("rule", ONE_OF_EACH_RULE)
def test_trace_holds_every_decision(rule: str) -> None:
    # Two candidates with one trace would be one record.
    task = task_of(rule)
    found = schedules.candidates(task.func, HOST)
    assert len(set(found)) == len(found)
    traces = [str(schedules.apply(task.func, c, HOST).trace) for c in found[:12]]
    assert len(set(traces)) == len(traces)


def test_unscheduled_is_the_function_as_imported() -> None:
    task = small_convolution()
    untouched = schedules.apply(task.func, schedules.UNSCHEDULED, HOST)
    tvm.ir.assert_structural_equal(untouched.mod, task.module)
    assert schedules.packings(task.func, schedules.UNSCHEDULED) == []


def test_the_space_depends_on_the_board() -> None:
    func = small_convolution().func
    lanes = {
        name: schedules.candidates(func, targets.load(name))[0]["lanes"]
        for name in ("host", "rasp4")
    }
    assert lanes["rasp4"] == 4
    assert lanes["host"] == min(HOST.hardware.lanes, 16)


def test_a_new_rule_is_one_file_and_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = max(tasks_of(nn.Softmax(1), (4, 40)), key=lambda each: each.operations)
    found = schedules.candidates(task.func, HOST)
    assert {c.rule for c in found} == {"fallback", "metaschedule"}

    monkeypatch.setattr(registry, "RULES", (Softmax(), *registry.RULES))
    first, second = (c for c in schedules.candidates(task.func, HOST) if c.rule == "softmax")
    assert str(second) == "softmax(unroll=4)"
    expected = worker.reference(tvm.ir.save_json(task.module), task.inputs, task.outputs)
    with LocalDevice() as device:
        for candidate in (first, second):
            library = tmp_path / "softmax.so"
            build_kernel(schedules.apply(task.func, candidate, HOST), HOST, library)
            outputs, _ = device.call(library, "main", random_inputs(task.inputs), task.outputs)
            assert relative_error(outputs[0], expected[0]) <= TOLERANCE
    # The rule matches no other function.
    assert schedules.candidates(small_convolution().func, HOST)[0].rule == "register_tile"

"""Winograd's algorithm in float16 on the emulated Cortex-A76: right, in blocks, in eight lanes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from half_kernels import RASP5, Case, require_right, run, then
from kernels import HOST, Bench
from torch import nn

from tvm_eff import frontend, passes, schedules, targets, tune
from tvm_eff.codegen import compile_kernel
from tvm_eff.device import EmulatedDevice
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.schedules.winograd.match import match
from tvm_eff.schedules.winograd.rewrite import weight_function
from tvm_eff.schedules.winograd.transforms import transform_weight
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.builder import Builder

RULE = "winograd_half"


class Side(nn.Module):
    """Two convolutions side by side, as in a fire module: the second one writes a slice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.three = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 24, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.one(x).relu(), self.three(x).relu()], 1)


class Residual(nn.Module):
    """A convolution to whose result its input is added."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(32, 32, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu6(self.layer(x) + x)


NOT_OFFERED: dict[str, Case] = {
    "1x1": (then(nn.Conv2d(32, 16, 1)), (1, 32, 9, 9)),
    "5x5": (then(nn.Conv2d(8, 16, 5, padding=2)), (1, 8, 9, 9)),
    "stride": (then(nn.Conv2d(16, 16, 3, stride=2)), (1, 16, 9, 9)),
    "dilation": (then(nn.Conv2d(16, 16, 3, dilation=2)), (1, 16, 9, 9)),
    "groups": (then(nn.Conv2d(32, 16, 3, groups=2)), (1, 32, 9, 9)),
    "blocks_of_one_channel": (then(nn.Conv2d(23, 16, 3)), (1, 23, 9, 9)),
}

RIGHT: dict[str, Case] = {
    "one_block": (then(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU()), (1, 16, 13, 13)),
    "float16_totals": (then(nn.Conv2d(48, 32, 3, padding=1), nn.ReLU()), (1, 48, 9, 11)),
    "float32_totals": (then(nn.Conv2d(160, 16, 3, padding=1), nn.ReLU6()), (1, 160, 5, 7)),
    "no_bias": (then(nn.Conv2d(64, 16, 3, bias=False)), (1, 64, 8, 9)),
    "odd_channels": (then(nn.Conv2d(5, 10, 3, padding=1)), (1, 5, 9, 7)),
    "blocks_of_four_channels": (then(nn.Conv2d(20, 12, 3), nn.Sigmoid()), (1, 20, 8, 9)),
    "batch": (then(nn.Conv2d(32, 16, 3, padding=(0, 1))), (2, 32, 7, 10)),
    "stride": (then(nn.Conv2d(8, 8, 6, stride=2, padding=2)), (1, 8, 15, 13)),
    "slice": (then(Side()), (1, 16, 11, 9)),
    "residual": (then(Residual()), (1, 32, 10, 7)),
}


@pytest.fixture(scope="module")
def bench(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with EmulatedDevice("aarch64", "cortex-a76") as device, Builder() as builder:
        yield Bench(builder, device, RASP5, tmp_path_factory.mktemp("winograd"))


def kernel(case: Case) -> Task:
    """Return the largest convolution of a network in float16."""
    model, shape = case
    torch.manual_seed(0)
    network = frontend.import_model(model, [torch.zeros(shape)])
    found = tune.extract(passes.lower(network, RASP5, "float16").mod)
    return max(found, key=lambda each: analysis.multiply_adds(each.func))


def offered(task: Task, target: Target = RASP5) -> list[Candidate]:
    return [each for each in schedules.candidates(task.func, target) if each.rule == RULE]


def tried(task: Task) -> list[Candidate]:
    """Return the first candidate of each size of blocks, of the whole image and of its rows."""
    found: dict[tuple[object, ...], Candidate] = {}
    for each in offered(task):
        found.setdefault((each["tile_rows"] == 0, each["depth"]), each)
    return list(found.values())


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_where_it_does_not_apply(name: str) -> None:
    task = kernel(NOT_OFFERED[name])
    assert schedules.candidates(task.func, RASP5)
    assert not offered(task)


@pytest.mark.parametrize("target", [HOST, targets.load("rasp4")])
def test_not_offered_where_nothing_computes_in_float16(target: Target) -> None:
    task = kernel(RIGHT["float16_totals"])
    found = {each.rule for each in schedules.candidates(task.func, target)}
    assert found
    assert not any("winograd" in rule for rule in found)


@pytest.mark.parametrize("name", RIGHT)
def test_right_on_the_board(name: str, bench: Bench) -> None:
    task = kernel(RIGHT[name])
    require_right(bench, task, tried(task))


@pytest.mark.parametrize("name", ["one_block", "float16_totals", "float32_totals"])
def test_all_products_are_of_eight_lanes(name: str) -> None:
    task = kernel(RIGHT[name])
    module = compile_kernel(schedules.apply(task.func, tried(task)[0], RASP5), RASP5)
    text = str(module.inspect_source("asm"))
    assert len(re.findall(r"\bfml[as]\s+v\d+\.8h, v\d+\.8h, v\d+\.h\[", text)) > 50
    assert not re.search(r"\bfml[as]\s+v\d+\.4s", text)


def test_a_long_sum_does_not_stop(bench: Bench) -> None:
    # In float16 2,048 + 1 is 2,048.
    task = kernel((then(nn.Conv2d(1024, 8, 3)), (1, 1024, 4, 4)))
    inputs = [np.ones(spec.shape, spec.dtype) for spec in task.inputs]
    inputs[-1] *= 0
    for candidate in tried(task):
        found = run(bench, task, candidate, inputs)
        np.testing.assert_array_equal(found, np.full(found.shape, 9 * 1024, "float16"))


def test_large_inputs_can_be_transformed(bench: Bench) -> None:
    # A transformed input is a sum of four, here 32,768; the largest number is 65,504.
    task = kernel((then(nn.Conv2d(16, 8, 3)), (1, 16, 6, 6)))
    values = (2.0**13, 2.0**-10, 0)
    inputs = [
        np.full(spec.shape, value, spec.dtype)
        for value, spec in zip(values, task.inputs, strict=True)
    ]
    for candidate in tried(task):
        found = run(bench, task, candidate, inputs)
        np.testing.assert_array_equal(found, np.full(found.shape, 9 * 16 * 8, "float16"))


def test_it_comes_first_and_smaller_blocks_are_among_the_first() -> None:
    first = schedules.candidates(kernel(RIGHT["float16_totals"]).func, RASP5)[:4]
    assert [each.rule for each in first] == [RULE, "half_tile", "half_tile", RULE]
    assert [each["depth"] for each in first[::3]] == [16, 8]


@pytest.mark.parametrize("name", RIGHT)
def test_the_library_transforms_weights_as_the_tuner_does(name: str) -> None:
    task = kernel(RIGHT[name])
    work = match(task.func, "float16")
    assert work is not None
    shape = tuple(int(n) for n in task.func.params[work.weight_parameter].shape)
    weight = np.random.default_rng(0).standard_normal(shape).astype("float16")
    (filtering,) = work.filters
    expected = transform_weight(weight, filtering, work.stride)
    function = weight_function(work, filtering.tile).with_attr("global_symbol", "main")
    result = tvm.runtime.tensor(np.zeros(expected.shape, "float16"))
    built = tvm.tirx.build(tvm.IRModule({"main": function}), target=HOST.tvm_target())
    built["main"](tvm.runtime.tensor(weight), result)
    np.testing.assert_allclose(result.numpy(), expected, rtol=2.0**-10)


def test_each_candidate_has_its_alternative() -> None:
    task = kernel(RIGHT["slice"])
    for candidate in tried(task):
        found = schedules.alternative(task.func, candidate)
        assert found is not None
        assert found.name == "winograd_half2"


@pytest.mark.parametrize("name", ["one_block", "float16_totals", "float32_totals"])
def test_a_trace_replays(name: str) -> None:
    task = kernel(RIGHT[name])
    for candidate in tried(task):
        made = schedules.apply(task.func, candidate, RASP5)
        again = analysis.schedule(schedules.rewritten(task.func, candidate))
        made.trace.apply_to_schedule(again, remove_postproc=False)
        assert tvm_ffi.structural_equal(made.mod, again.mod)

"""Winograd's algorithm: its transforms are exact, and the rule matches where it applies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
from kernels import HOST, tasks_of
from torch import nn

from tvm_eff import schedules, targets
from tvm_eff.schedules import analysis
from tvm_eff.schedules.winograd.match import match
from tvm_eff.schedules.winograd.rewrite import weight_function
from tvm_eff.schedules.winograd.transforms import (
    PAIRS,
    Filter,
    filters,
    input_rows,
    output_rows,
    transform_weight,
    weight_matrix,
)
from tvm_eff.targets import Target
from tvm_eff.tune import Task

NOT_OFFERED = {
    "7x7": nn.Conv2d(8, 16, 7, padding=3),
    "3x5": nn.Conv2d(8, 16, (3, 5)),
    "1x1": nn.Conv2d(8, 16, 1),
    "stride": nn.Conv2d(8, 16, 3, stride=2),
    "stride_of_three": nn.Conv2d(8, 16, 7, stride=3),
    "stride_of_one_side": nn.Conv2d(8, 16, 3, stride=(1, 2)),
    "dilation": nn.Conv2d(8, 16, 3, dilation=2),
    "groups": nn.Conv2d(8, 16, 3, groups=2),
    "depthwise": nn.Conv2d(8, 8, 3, groups=8),
}

OFFERED = {
    "padding": nn.Conv2d(8, 16, 3, padding=1),
    "no_padding": nn.Conv2d(8, 16, 3),
    "padding_of_two": nn.Conv2d(8, 16, 3, padding=2),
    "padding_of_one_side": nn.Conv2d(8, 16, 3, padding=(0, 1)),
    "5x5": nn.Conv2d(8, 16, 5, padding=2),
    "5x5_of_stride_2": nn.Conv2d(8, 16, 5, stride=2),
    "7x7_of_stride_2": nn.Conv2d(8, 16, 7, stride=2, padding=3),
    "activation": nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU6()),
}


def convolution(model: nn.Module, target: Target = HOST) -> Task:
    found = tasks_of(model, (2, 8, 13, 9), target=target)
    return next(task for task in found if analysis.contraction(task.func))


def rules(task: Task) -> set[str]:
    return {candidate.rule for candidate in schedules.candidates(task.func, HOST)}


WIDE = nn.Conv2d(16, 32, 3, padding=1)


@pytest.mark.parametrize(
    ("model", "shape", "rule"),
    [
        (WIDE, (1, 16, 28, 28), "winograd"),
        (nn.Sequential(WIDE, nn.ReLU()), (2, 16, 13, 13), "winograd"),
        (nn.Conv2d(16, 32, 5, stride=2, padding=2), (1, 16, 28, 28), "winograd"),
        (nn.Conv2d(3, 32, 3, padding=1), (1, 3, 28, 28), "register_tile"),
        (nn.Conv2d(16, 4, 3, padding=1), (1, 16, 28, 28), "register_tile"),
        # Tiles of 4 x 4 and of 2 x 2 are cut off to a single output.
        (WIDE, (1, 16, 1, 1), "register_tile"),
    ],
    ids=["3x3", "batch", "5x5", "image", "few_outputs", "one_place"],
)
@pytest.mark.parametrize("name", ["host", "rasp4"])
def test_it_comes_first_where_it_gains_most(
    model: nn.Module, shape: tuple[int, ...], rule: str, name: str
) -> None:
    found = tasks_of(model, shape, target=targets.load(name))
    task = next(task for task in found if analysis.contraction(task.func))
    candidates = schedules.candidates(task.func, targets.load(name))
    assert candidates[0].rule == rule
    assert {"winograd", "register_tile"} <= {each.rule for each in candidates[:3]}
    assert len(set(candidates)) == len(candidates)


ALL = [Filter(2, 3), Filter(4, 3), Filter(3, 4), Filter(5, 2), Filter(2, 5)]


@pytest.mark.parametrize("filtering", ALL, ids=str)
def test_transforms_compute_a_correlation(filtering: Filter) -> None:
    rng = np.random.default_rng(filtering.tile)
    line, kernel = rng.standard_normal(filtering.size), rng.standard_normal(filtering.kernel_size)
    transformed = [row(lambda k: line[k]) for row in input_rows(filtering)]
    products = weight_matrix(filtering) @ kernel * np.array(transformed)
    computed = [row(lambda k: products[k]) for row in output_rows(filtering)]
    np.testing.assert_allclose(computed, np.correlate(line, kernel), atol=1e-12)


def test_filters_of_a_kernel() -> None:
    assert filters(3) == [Filter(2, 3), Filter(4, 3)]
    assert filters(4) == [Filter(3, 4)]
    assert filters(max(PAIRS)) == []


@pytest.mark.parametrize("filtering", filters(3), ids=str)
def test_weights_are_transformed_in_both_directions(filtering: Filter) -> None:
    weight = np.zeros((1, 3, 3, 1), "float32")
    weight[0, 1, 2, 0] = 2.0
    matrix = weight_matrix(filtering)
    expected = 2.0 * np.outer(matrix[:, 1], matrix[:, 2])
    transformed = transform_weight(weight, filtering, 1)
    np.testing.assert_allclose(transformed[0, :, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["padding", "5x5", "5x5_of_stride_2", "7x7_of_stride_2"])
def test_the_library_transforms_weights_as_the_tuner_does(name: str) -> None:
    work = match(convolution(OFFERED[name]).func)
    assert work is not None
    shape = (16, work.kernel, work.kernel, 8)
    weight = np.random.default_rng(0).standard_normal(shape).astype("float32")
    for filtering in work.filters:
        expected = transform_weight(weight, filtering, work.stride)
        function = weight_function(work, filtering.tile)
        named = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
        result = tvm.runtime.tensor(np.zeros(expected.shape, "float32"))
        tvm.tirx.build(named, target="llvm")["main"](tvm.runtime.tensor(weight), result)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_where_it_does_not_apply(name: str) -> None:
    task = convolution(NOT_OFFERED[name])
    assert "winograd" not in rules(task)
    assert schedules.alternatives(task.func) == []


@pytest.mark.parametrize("name", OFFERED)
def test_where_it_applies(name: str) -> None:
    task = convolution(OFFERED[name])
    assert rules(task) == {"register_tile", "winograd"}
    work = match(task.func)
    assert work is not None
    assert len(schedules.alternatives(task.func)) == len(work.filters) > 0


def test_it_is_not_offered_where_the_weight_is_an_input() -> None:
    class OfTwoInputs(nn.Module):
        def forward(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, weight)

    found = tasks_of(OfTwoInputs(), (1, 8, 9, 9), (16, 8, 3, 3))
    assert all("winograd" not in rules(task) for task in found)


@pytest.mark.parametrize("name", ["host", "rasp4"])
def test_an_even_share_of_the_first_candidates(name: str) -> None:
    target = targets.load(name)
    task = convolution(OFFERED["padding"], target)
    first = [c.rule for c in schedules.candidates(task.func, target)[:8]]
    assert first.count("winograd") == first.count("register_tile") == 4

"""Winograd's algorithm: its transforms are exact, it is offered where it applies, it is near."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernels import HOST, tasks_of
from torch import nn

from tvm_eff import space, targets
from tvm_eff.space import structure
from tvm_eff.space.winograd_transforms import (
    PAIRS,
    input_rows,
    output_rows,
    transform_weight,
    weight_matrix,
)
from tvm_eff.targets import Target
from tvm_eff.tune import Task

NOT_OFFERED = {
    "5x5": nn.Conv2d(8, 16, 5, padding=2),
    "1x1": nn.Conv2d(8, 16, 1),
    "stride": nn.Conv2d(8, 16, 3, stride=2),
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
    "activation": nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU6()),
}


def convolution(model: nn.Module, target: Target = HOST) -> Task:
    found = tasks_of(model, (2, 8, 13, 9), target=target)
    return next(task for task in found if structure.contraction(task.func))


def rules(task: Task) -> set[str]:
    return {candidate.rule for candidate in space.candidates(task.func, HOST)}


@pytest.mark.parametrize("tile", PAIRS)
def test_transforms_compute_a_correlation(tile: int) -> None:
    rng = np.random.default_rng(tile)
    line, taps = rng.standard_normal(tile + 2), rng.standard_normal(3)
    transformed = [row(lambda k: line[k]) for row in input_rows(tile)]
    products = weight_matrix(tile) @ taps * np.array(transformed)
    computed = [row(lambda k: products[k]) for row in output_rows(tile)]
    np.testing.assert_allclose(computed, np.correlate(line, taps), atol=1e-12)


@pytest.mark.parametrize("tile", PAIRS)
def test_weights_are_transformed_in_both_directions(tile: int) -> None:
    weight = np.zeros((1, 3, 3, 1), "float32")
    weight[0, 1, 2, 0] = 2.0
    matrix = weight_matrix(tile)
    expected = 2.0 * np.outer(matrix[:, 1], matrix[:, 2])
    np.testing.assert_allclose(transform_weight(weight, tile)[0, :, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_where_it_does_not_apply(name: str) -> None:
    task = convolution(NOT_OFFERED[name])
    assert "winograd" not in rules(task)
    assert space.alternatives(task.func) == []


@pytest.mark.parametrize("name", OFFERED)
def test_where_it_applies(name: str) -> None:
    task = convolution(OFFERED[name])
    assert rules(task) == {"register_tile", "winograd"}
    assert len(space.alternatives(task.func)) == len(PAIRS)


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
    first = [c.rule for c in space.candidates(task.func, target)[:8]]
    assert first.count("winograd") == first.count("register_tile") == 4

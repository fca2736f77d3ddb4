"""Which depthwise convolutions are fused into the convolution that consumes them."""

from __future__ import annotations

import pytest
import torch
from kernels import HOST, lowered, tasks_of
from torch import nn

from tvm_eff import targets
from tvm_eff.targets import Target

on_x86 = pytest.mark.skipif(
    not HOST.private_caches, reason="chains are for cores with caches of their own"
)
CHANNELS = 32
SHAPE = (1, CHANNELS, 12, 14)


def depthwise(*kernel: int, channels: int = CHANNELS, **options: object) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, groups=channels, **options)  # type: ignore[arg-type]


class UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = depthwise(3, 1), depthwise(1, 3, padding=(0, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return y + self.second(y)


class AddsAnInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = depthwise(3, 1, padding=(1, 0)), depthwise(1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) + x)


CHAINED = {
    "separable": nn.Sequential(depthwise(5, 1), depthwise(1, 5)),
    "batch_norm": nn.Sequential(
        depthwise(3, 1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU6(), depthwise(1, 3)
    ),
    "pointwise": nn.Sequential(depthwise(3, 3, stride=2), nn.ReLU(), nn.Conv2d(CHANNELS, 64, 1)),
    "first_of_three": nn.Sequential(depthwise(3, 3), depthwise(1, 3), nn.Conv2d(CHANNELS, 16, 1)),
}

APART = {
    "used_twice": UsedTwice(),
    "another_activation_between": AddsAnInput(),
    "sigmoid_between": nn.Sequential(depthwise(3, 1), nn.Sigmoid(), depthwise(1, 3)),
    "rows_behind": nn.Sequential(depthwise(1, 3), depthwise(3, 1)),
    "rows_of_padding": nn.Sequential(depthwise(3, 1), depthwise(1, 3, padding=1)),
    "strided_rows": nn.Sequential(depthwise(3, 1), depthwise(1, 3, stride=2)),
    "standard_before": nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, (3, 1)), depthwise(1, 3)),
    "standard_behind": nn.Sequential(depthwise(3, 3), nn.Conv2d(CHANNELS, 64, 3, padding=1)),
    "strided_pointwise": nn.Sequential(depthwise(3, 3), nn.Conv2d(CHANNELS, 64, 1, stride=2)),
    "grouped_pointwise": nn.Sequential(depthwise(3, 3), nn.Conv2d(CHANNELS, 64, 1, groups=2)),
    "many_weights": nn.Sequential(depthwise(3, 3), nn.Conv2d(CHANNELS, 2048, 1)),
    "large_kernel": nn.Sequential(depthwise(5, 5), depthwise(1, 5)),
}


def chains(model: nn.Module, target: Target = HOST) -> list[str]:
    found = tasks_of(model, SHAPE, target=target)
    return [task.label for task in found if "depthwise_chain" in task.name]


@on_x86
@pytest.mark.parametrize("name", CHAINED)
def test_chained(name: str) -> None:
    [label] = chains(CHAINED[name])
    assert label.count(" + ") == 1


@on_x86
@pytest.mark.parametrize("name", APART)
def test_apart(name: str) -> None:
    assert chains(APART[name]) == []


@on_x86
def test_odd_channels_stay_apart() -> None:
    odd = nn.Sequential(depthwise(3, 1, channels=6), depthwise(1, 3, channels=6))
    found = tasks_of(odd, (1, 6, 9, 9))
    assert not any("depthwise_chain" in task.name for task in found)


@on_x86
def test_of_three_in_a_row_two_are_chained() -> None:
    row = nn.Sequential(depthwise(3, 1), depthwise(1, 3), depthwise(1, 5))
    found = [task.label for task in tasks_of(row, SHAPE) if "depthwise" in task.label]
    assert sorted(label.count("depthwise") for label in found) == [1, 2]


@pytest.mark.parametrize("name", ["rasp4", "rk3399-mali"])
def test_shared_caches_and_gpus_have_none(name: str) -> None:
    assert chains(CHAINED["separable"], targets.load(name)) == []


@on_x86
def test_layouts_of_both_weights_are_free() -> None:
    network = lowered(CHAINED["separable"], SHAPE)
    [kernel] = [f for v, f in network.mod.functions_items() if "depthwise_chain" in v.name_hint]
    free = [
        [int(n) for n in kernel.params[int(i)].shape] for i in kernel.attrs["layout_free_buffers"]
    ]
    assert [CHANNELS, 5, 1, 1] in free and [CHANNELS, 1, 5, 1] in free

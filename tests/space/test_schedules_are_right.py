"""Whatever the shape, every schedule computes what the unscheduled kernel computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from kernels import HOST, Bench, tasks_of
from torch import nn

from tvm_eff import space, targets
from tvm_eff.device import LocalDevice
from tvm_eff.tune.builder import Builder
from tvm_eff.tune.checker import TOLERANCE

FIRST = 6

Shape = tuple[int, ...]
Case = tuple[Callable[[], nn.Module], tuple[Shape, ...]]


class Residual(nn.Module):
    """A convolution, its input added, and ReLU."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.convolution(x) + x)


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)


def conv(*arguments: int, shape: Shape, then: nn.Module | None = None, **options: object) -> Case:
    def make() -> nn.Module:
        convolution = nn.Conv2d(*arguments, **options)  # type: ignore[arg-type]
        return nn.Sequential(convolution, then) if then is not None else convolution

    return make, (shape,)


def of(module: nn.Module, *shapes: Shape) -> Case:
    return (lambda: module), shapes


CONVOLUTIONS = {
    "1x1": conv(64, 32, 1, shape=(1, 64, 14, 14)),
    "1x1_width_55": conv(16, 64, 1, shape=(1, 16, 55, 55), then=nn.ReLU()),
    "1x1_on_one_pixel": conv(32, 48, 1, shape=(1, 32, 1, 1)),
    "1x1_stride_2": conv(16, 32, 1, shape=(1, 16, 13, 13), stride=2),
    "3x3": conv(16, 32, 3, shape=(1, 16, 13, 13), padding=1),
    "3x3_no_padding": conv(16, 32, 3, shape=(1, 16, 13, 13)),
    "3x3_stride_2": conv(16, 32, 3, shape=(1, 16, 14, 14), padding=1, stride=2),
    "3x3_stride_3": conv(8, 16, 3, shape=(1, 8, 20, 20), stride=3),
    "3x3_stride_2_by_1": conv(8, 16, 3, shape=(1, 8, 9, 11), stride=(2, 1)),
    "3x3_dilation_2": conv(8, 16, 3, shape=(1, 8, 15, 15), padding=2, dilation=2),
    "3x3_width_109": conv(3, 64, 3, shape=(1, 3, 109, 109), stride=1, padding=1),
    "3x3_width_111": conv(3, 16, 3, shape=(1, 3, 223, 223), stride=2),
    "3x3_bigger_than_input": conv(4, 8, 3, shape=(1, 4, 2, 2), padding=1),
    "5x5_padding_2": conv(8, 16, 5, shape=(1, 8, 13, 13), padding=2),
    "7x7_stride_2": conv(3, 96, 7, shape=(1, 3, 61, 61), stride=2),
    "1x3": conv(8, 16, (1, 3), shape=(1, 8, 13, 13), padding=(0, 1)),
    "3x1": conv(8, 16, (3, 1), shape=(1, 8, 13, 13), padding=(1, 0)),
    "padding_of_one_side_only": conv(8, 16, 3, shape=(1, 8, 13, 13), padding=(0, 2)),
    "padded_before": of(
        nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(8, 16, 3, stride=2)), (1, 8, 14, 14)
    ),
    "groups_2": conv(16, 32, 3, shape=(1, 16, 13, 13), padding=1, groups=2),
    "groups_4": conv(32, 32, 1, shape=(1, 32, 13, 13), groups=4),
    "groups_of_two_channels": conv(16, 16, 3, shape=(1, 16, 7, 7), padding=1, groups=8),
    "batch_2": conv(8, 16, 3, shape=(2, 8, 13, 13), padding=1, then=nn.ReLU()),
    "channels_3_to_10": conv(3, 10, 3, shape=(1, 3, 13, 13)),
    "channels_10_to_17": conv(10, 17, 3, shape=(1, 10, 13, 13), padding=1),
    "channels_17_to_3": conv(17, 3, 1, shape=(1, 17, 13, 13)),
    "one_channel": conv(1, 1, 3, shape=(1, 1, 13, 13), padding=1),
    "1000_channels": conv(64, 1000, 1, shape=(1, 64, 13, 13), then=nn.ReLU()),
    "no_bias": conv(8, 16, 3, shape=(1, 8, 13, 13), padding=1, bias=False),
    "no_bias_relu": conv(8, 16, 3, shape=(1, 8, 13, 13), bias=False, then=nn.ReLU()),
    "relu6": conv(8, 16, 3, shape=(1, 8, 13, 13), padding=1, then=nn.ReLU6()),
    "residual": (lambda: Residual(16, 3), ((1, 16, 13, 13),)),
    "residual_1x1": (lambda: Residual(16, 1), ((1, 16, 13, 13),)),
}

DEPTHWISE = {
    "3x3": conv(16, 16, 3, shape=(1, 16, 14, 14), padding=1, groups=16, then=nn.ReLU6()),
    "stride_2": conv(32, 32, 3, shape=(1, 32, 14, 14), padding=1, stride=2, groups=32),
    "width_55": conv(8, 8, 3, shape=(1, 8, 55, 55), padding=1, groups=8),
    "5x5_odd_channels": conv(17, 17, 5, shape=(1, 17, 13, 13), padding=2, groups=17),
    "1x1": conv(16, 16, 1, shape=(1, 16, 13, 13), groups=16),
    "dilation_2": conv(8, 8, 3, shape=(1, 8, 13, 13), dilation=2, groups=8, bias=False),
    "3x1": conv(16, 16, (3, 1), shape=(1, 16, 13, 13), padding=(1, 0), groups=16),
    "batch_2": conv(16, 16, 3, shape=(2, 16, 7, 7), padding=1, groups=16),
}

DENSE = {
    "batch_1_to_10": of(nn.Linear(64, 10), (1, 64)),
    "batch_1_to_1000": of(nn.Linear(256, 1000), (1, 256)),
    "batch_5_to_10": of(nn.Sequential(nn.Linear(33, 10), nn.ReLU()), (5, 33)),
    "batch_5_to_1000": of(nn.Linear(64, 1000, bias=False), (5, 64)),
}

OTHERS = {
    "max_pool_ceil": of(nn.MaxPool2d(3, 2, ceil_mode=True), (1, 16, 14, 14)),
    "max_pool_padding": of(nn.MaxPool2d(3, 2, padding=1), (1, 17, 13, 13)),
    "avg_pool": of(nn.AvgPool2d(2), (1, 16, 14, 14)),
    "avg_pool_ceil_padding": of(nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), (1, 10, 14, 14)),
    "global_avg_pool": of(nn.AdaptiveAvgPool2d(1), (1, 1000, 13, 13)),
    "mean": of(Applied(lambda x: x.mean((2, 3))), (2, 16, 7, 7)),
    "concat": of(Applied(lambda x, y: torch.cat([x, y], 1)), (1, 16, 9, 9), (1, 10, 9, 9)),
    "transpose": of(Applied(lambda x: x.permute(0, 2, 3, 1).contiguous()), (1, 17, 9, 13)),
    "relu": of(nn.ReLU(), (1, 3, 5, 7)),
    "sigmoid_of_a_vector": of(nn.Sigmoid(), (13,)),
    "sum_of_two": of(Applied(lambda x, y: x + y), (1, 16, 9, 9), (1, 16, 9, 9)),
}

# Right with a schedule or without one.
PERHAPS = {
    "depthwise_multiplier_2": conv(8, 16, 3, shape=(1, 8, 13, 13), padding=1, groups=8),
    "depthwise_multiplier_3": conv(5, 15, 3, shape=(1, 5, 9, 9), groups=5),
    "softmax": of(nn.Softmax(1), (1, 1000)),
    "one_to_one_convolution": conv(1, 1, 1, shape=(1, 1, 1, 1)),
    "square_of_the_input": of(Applied(lambda x: (x * x).sum(1)), (4, 17)),
    "matrix_product_of_inputs": of(Applied(torch.matmul), (5, 16), (16, 24)),
    "output_used_twice": of(Applied(lambda x: torch.relu(x) + torch.sigmoid(x)), (1, 16, 5, 5)),
    "channel_shuffle": of(nn.ChannelShuffle(2), (1, 16, 9, 9)),
    "hard_swish": of(nn.Hardswish(), (1, 16, 9, 9)),
    "flatten": of(nn.Flatten(), (1, 16, 3, 3)),
}

MATCHED = {
    f"{family}-{name}": case
    for family, cases in (
        ("convolution", CONVOLUTIONS),
        ("depthwise", DEPTHWISE),
        ("dense", DENSE),
        ("other", OTHERS),
    )
    for name, case in cases.items()
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with LocalDevice(threads=2) as device, Builder() as builder:
        yield Bench(builder, device, HOST, tmp_path_factory.mktemp("kernels"))


def unmatched_and_wrong(
    case: Case, bench: Bench, target: targets.Target, first: int
) -> tuple[list[str], list[str]]:
    """Run the first candidates of every kernel.

    Returns
    -------
    tuple
        The kernels no rule matches, and the candidates that compute something else.
    """
    torch.manual_seed(0)
    make, shapes = case
    unmatched, wrong = [], []
    for task in tasks_of(make(), *shapes, target=target):
        tried = space.candidates(task.func, target)[:first]
        if not tried:
            unmatched.append(task.name)
        for candidate, error in zip(tried, bench.errors(task, tried, target), strict=True):
            if not error <= TOLERANCE:
                wrong.append(f"{task.name}, {candidate}: {error}")
    return unmatched, wrong


@pytest.mark.parametrize("name", MATCHED)
def test_schedules_of_this_machine(name: str, bench: Bench) -> None:
    assert unmatched_and_wrong(MATCHED[name], bench, HOST, FIRST) == ([], [])


@pytest.mark.parametrize("name", MATCHED)
def test_schedules_of_a_board(name: str, bench: Bench) -> None:
    # A schedule for Cortex-A72 is right or wrong on any machine.
    assert unmatched_and_wrong(MATCHED[name], bench, targets.load("rasp4"), 2) == ([], [])


@pytest.mark.parametrize("name", PERHAPS)
def test_what_no_rule_need_match(name: str, bench: Bench) -> None:
    assert unmatched_and_wrong(PERHAPS[name], bench, HOST, FIRST)[1] == []

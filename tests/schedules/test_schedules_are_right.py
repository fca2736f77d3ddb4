"""For any shape, every schedule computes what the unscheduled kernel computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from kernels import HOST, Bench, tasks_of, varied
from network_modules import Applied, Residual
from torch import nn

from tvm_eff import schedules, targets
from tvm_eff.device import LocalDevice
from tvm_eff.schedules import analysis
from tvm_eff.tune.builder import Builder
from tvm_eff.tune.checker import TOLERANCE

OF_THIS_MACHINE, OF_A_BOARD = 4, 2
"""Candidates of each kernel, of as many rules as there are."""

Shape = tuple[int, ...]
Case = tuple[Callable[[], nn.Module], tuple[Shape, ...]]


def conv(
    *arguments: int | tuple[int, int],
    shape: Shape,
    then: nn.Module | None = None,
    **options: object,
) -> Case:
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
    "5x5_stride_2": conv(3, 32, 5, shape=(2, 3, 29, 32), stride=2, padding=2, then=nn.ReLU()),
    "5x5_stride_2_of_8": conv(8, 16, 5, shape=(1, 8, 13, 14), stride=2, padding=1),
    "7x7_stride_2": conv(3, 96, 7, shape=(1, 3, 61, 61), stride=2),
    "7x7_stride_2_padding_3": conv(3, 64, 7, shape=(1, 3, 56, 56), stride=2, padding=3),
    "7x7_stride_2_of_16": conv(16, 16, 7, shape=(1, 16, 15, 18), stride=2, padding=3),
    "11x11": conv(3, 8, 11, shape=(1, 3, 31, 31), stride=4),
    "stride_beyond_kernel": conv(8, 16, 1, shape=(1, 8, 13, 11), stride=3),
    "prime_width": conv(5, 7, 3, shape=(1, 5, 11, 23), padding=1, then=nn.Hardswish()),
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
    "silu": conv(8, 16, 3, shape=(1, 8, 13, 13), padding=1, then=nn.SiLU()),
    "prelu": conv(8, 16, 3, shape=(1, 8, 13, 13), padding=1, then=nn.PReLU(16)),
    "one_dimension": of(nn.Conv1d(8, 16, 5, padding=2), (2, 8, 37)),
    "one_dimension_groups": of(nn.Conv1d(8, 16, 3, groups=2), (1, 8, 37)),
    "three_dimensions": of(nn.Conv3d(4, 8, 3, padding=1), (1, 4, 5, 6, 7)),
    "transposed": of(nn.ConvTranspose2d(8, 6, 4, 2, 1), (1, 8, 7, 9)),
    "transposed_with_gaps": of(nn.ConvTranspose2d(8, 8, 1, 2), (1, 8, 5, 5)),
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
    "1x5": conv(16, 16, (1, 5), shape=(1, 16, 9, 13), padding=(0, 2), groups=16),
    "5x1": conv(3, 3, (5, 1), shape=(1, 3, 13, 9), padding=(2, 0), groups=3),
    "21x21": conv(16, 16, 21, shape=(1, 16, 24, 24), padding=10, groups=16),
    "residual": (lambda: Residual(16, 3, groups=16), ((1, 16, 13, 13),)),
    "multiplier_2": conv(8, 16, 3, shape=(1, 8, 13, 13), padding=1, groups=8),
    "multiplier_3": conv(5, 15, 3, shape=(1, 5, 9, 9), groups=5),
    "transposed": of(nn.ConvTranspose2d(16, 16, 4, 2, 1, groups=16), (2, 16, 7, 5)),
    "transposed_stride_3": of(nn.ConvTranspose2d(5, 5, 2, 3, groups=5), (1, 5, 7, 5)),
    "one_dimension": of(nn.Conv1d(16, 16, 3, padding=1, groups=16), (1, 16, 37)),
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
    "max_pool_dilation": of(nn.MaxPool2d(3, 2, dilation=2), (1, 16, 14, 14)),
    "avg_pool_exclude_pad": of(
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), (1, 10, 14, 14)
    ),
    "adaptive_pool": of(nn.AdaptiveAvgPool2d((5, 4)), (1, 10, 13, 11)),
    "mean_of_channels": of(Applied(lambda x: x.mean(1, keepdim=True)), (1, 16, 5, 5)),
    "softmax": of(nn.Softmax(1), (3, 1000)),
    "log_softmax_of_positions": of(nn.LogSoftmax(1), (1, 10, 7, 7)),
    "layer_norm": of(nn.LayerNorm(24), (5, 24)),
    "group_norm": of(nn.GroupNorm(2, 8), (2, 8, 5, 5)),
    "resize": of(nn.Upsample(scale_factor=2, mode="bilinear"), (1, 8, 5, 7)),
    "reflection_pad": of(nn.ReflectionPad2d(2), (1, 8, 5, 7)),
    "channel_shuffle": of(nn.ChannelShuffle(2), (1, 16, 9, 9)),
    "hard_swish": of(nn.Hardswish(), (1, 16, 9, 9)),
    "mish": of(nn.Mish(), (1, 16, 9, 9)),
    "flatten": of(nn.Flatten(), (1, 16, 3, 3)),
    "product_of_inputs": of(Applied(torch.matmul), (5, 16), (16, 24)),
    "batched_product": of(Applied(torch.matmul), (2, 3, 7, 16), (2, 3, 16, 13)),
    "attention": of(Applied(nn.functional.scaled_dot_product_attention), *3 * [(1, 2, 12, 8)]),
    "mean_of_everything": of(Applied(lambda x: x.mean()), (3, 16, 5)),
    "output_used_twice": of(Applied(lambda x: torch.relu(x) + torch.sigmoid(x)), (1, 16, 5, 5)),
    "sum_of_two": of(Applied(lambda x, y: x + y), (1, 16, 9, 9), (1, 16, 9, 9)),
}

# Rules may or may not match these.
OPTIONAL = {
    "one_to_one_convolution": conv(1, 1, 1, shape=(1, 1, 1, 1)),
    "square_of_the_input": of(Applied(lambda x: (x * x).sum(1)), (4, 17)),
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


@cache
def module_of(make: Callable[[], nn.Module]) -> nn.Module:
    """Make a module once for all targets."""
    torch.manual_seed(0)
    return make()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with LocalDevice(threads=2) as device, Builder() as builder:
        yield Bench(builder, device, HOST, tmp_path_factory.mktemp("kernels"))


def unmatched_and_wrong(
    case: Case, bench: Bench, target: targets.Target, count: int
) -> tuple[list[str], list[str]]:
    """Run some candidates of every kernel.

    Returns
    -------
    tuple
        The kernels that no rule matches, and the candidates with wrong results.
    """
    make, shapes = case
    unmatched, wrong = [], []
    for task in tasks_of(module_of(make), *shapes, target=target):
        tried = varied(schedules.candidates(task.func, target), count)
        if not tried:
            unmatched.append(task.name)
        for candidate, error in zip(tried, bench.errors(task, tried, target), strict=True):
            if not error <= TOLERANCE:
                wrong.append(f"{task.name}, {candidate}: {error}")
    return unmatched, wrong


@pytest.mark.parametrize("name", MATCHED)
def test_schedules_of_this_machine(name: str, bench: Bench) -> None:
    assert unmatched_and_wrong(MATCHED[name], bench, HOST, OF_THIS_MACHINE) == ([], [])


@pytest.mark.parametrize("name", MATCHED)
def test_schedules_of_a_board(name: str, bench: Bench) -> None:
    # A schedule's correctness does not depend on the machine it runs on.
    board = targets.load("rasp4")
    assert unmatched_and_wrong(MATCHED[name], bench, board, OF_A_BOARD) == ([], [])


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_no_rule_need_match(name: str, bench: Bench) -> None:
    assert unmatched_and_wrong(OPTIONAL[name], bench, HOST, OF_THIS_MACHINE)[1] == []


@pytest.mark.parametrize("channels", [3, 6, 8])
def test_every_block_of_winograd_with_a_stride(channels: int, bench: Bench) -> None:
    # Of 3 and 6 channels, vectors of padded elements span two columns, perhaps the edge.
    make, shapes = conv(channels, 32, 7, shape=(1, channels, 24, 26), stride=2, padding=3)
    task = next(t for t in tasks_of(make(), *shapes) if analysis.contraction(t.func))
    found = [c for c in schedules.candidates(task.func, HOST) if c.rule == "winograd"]
    kinds = {(c["tile"], c["tile_rows"]): c for c in found}
    assert (3, 0) in kinds
    errors = bench.errors(task, list(kinds.values()), HOST)
    assert {kind: e for kind, e in zip(kinds, errors, strict=True) if not e <= TOLERANCE} == {}

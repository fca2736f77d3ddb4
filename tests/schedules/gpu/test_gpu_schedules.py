"""For any shape, a GPU's schedules compute what the unscheduled kernel computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
import tvm
from gpu_networks import FAMILIES, imported
from kernels import Bench
from network_modules import Applied
from torch import nn

from tvm_eff import frontend, models, passes, schedules, targets, tune
from tvm_eff.device import LocalOpenCLDevice
from tvm_eff.device.opencl.drivers import driver
from tvm_eff.errors import InterruptedExecutionError
from tvm_eff.schedules import UNSCHEDULED, Candidate, analysis, gpu
from tvm_eff.targets import Target
from tvm_eff.tensors import kernel_tolerance
from tvm_eff.tune import Task
from tvm_eff.tune.builder import Builder

MALI = targets.load("rk3399-mali")
HERE = targets.launched_from_here(MALI)

Shape = tuple[int, ...]
Case = tuple[Callable[[], nn.Module], Shape]


def conv(
    *arguments: int | tuple[int, int],
    shape: Shape,
    then: nn.Module | None = None,
    **options: object,
) -> Case:
    def make() -> nn.Module:
        convolution = nn.Conv2d(*arguments, **options)  # type: ignore[arg-type]
        return nn.Sequential(convolution, then) if then is not None else convolution

    return make, shape


def of(module: nn.Module, shape: Shape) -> Case:
    return (lambda: module), shape


class Residual(nn.Module):
    """A convolution whose input is added to its result."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.convolution(x) + x)


class Branches(nn.Module):
    """Two convolutions that write slices of one concatenation, at an odd offset."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 16, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.relu(self.one(x)), torch.relu(self.other(x))], 1)


CASES = {
    "1x1_odd_positions": conv(16, 32, 1, shape=(1, 16, 13, 13), then=nn.ReLU()),
    "1x1_prime_width": conv(8, 16, 1, shape=(1, 8, 11, 23)),
    "1x1_stride_2": conv(16, 32, 1, shape=(1, 16, 13, 13), stride=2),
    "1x1_on_one_pixel": conv(32, 48, 1, shape=(1, 32, 1, 1)),
    "1x1_1000_channels": conv(16, 1000, 1, shape=(1, 16, 7, 7)),
    "3x3": conv(16, 32, 3, shape=(1, 16, 13, 13), padding=1, then=nn.ReLU6()),
    "3x3_stride_2": conv(3, 16, 3, shape=(1, 3, 111, 111), stride=2),
    "3x3_dilation_2": conv(8, 16, 3, shape=(1, 8, 15, 15), padding=2, dilation=2),
    "3x3_prelu": conv(8, 16, 3, shape=(1, 8, 13, 13), padding=1, then=nn.PReLU(16)),
    "5x5_batch_2": conv(8, 16, 5, shape=(2, 8, 9, 9), padding=2),
    "groups_4": conv(32, 32, 3, shape=(1, 32, 7, 7), padding=1, groups=4),
    "channels_10_to_17": conv(10, 17, 3, shape=(1, 10, 13, 13), padding=1),
    "one_channel": conv(1, 1, 3, shape=(1, 1, 13, 13), padding=1),
    "residual_3x3": ((lambda: Residual(16, 3)), (1, 16, 9, 9)),
    "residual_1x1": ((lambda: Residual(16, 1)), (1, 16, 9, 9)),
    "concatenated": (Branches, (1, 8, 9, 9)),
    "transposed": of(nn.ConvTranspose2d(8, 6, 4, 2, 1), (1, 8, 7, 9)),
    "one_dimension": of(nn.Conv1d(8, 16, 5, padding=2), (2, 8, 37)),
    "depthwise_3x3": conv(16, 16, 3, shape=(1, 16, 14, 14), padding=1, groups=16),
    "depthwise_stride_2": conv(32, 32, 3, shape=(1, 32, 15, 15), padding=1, stride=2, groups=32),
    "depthwise_5x5_odd_channels": conv(17, 17, 5, shape=(1, 17, 13, 13), padding=2, groups=17),
    "depthwise_dilation_2": conv(8, 8, 3, shape=(1, 8, 13, 13), dilation=2, groups=8),
    "depthwise_1x5": conv(16, 16, (1, 5), shape=(1, 16, 9, 13), padding=(0, 2), groups=16),
    "depthwise_5x1": conv(4, 4, (5, 1), shape=(1, 4, 13, 9), padding=(2, 0), groups=4),
    "depthwise_11x11": conv(16, 16, 11, shape=(1, 16, 14, 14), padding=5, groups=16),
    "depthwise_1x1": conv(16, 16, 1, shape=(1, 16, 13, 13), groups=16),
    "depthwise_one_dimension": of(nn.Conv1d(16, 16, 3, padding=1, groups=16), (1, 16, 37)),
    "dense_1000": of(nn.Linear(256, 1000), (1, 256)),
    "dense_batch_5_to_10": of(nn.Sequential(nn.Linear(33, 10), nn.ReLU()), (5, 33)),
    "max_pool_ceil": of(nn.MaxPool2d(3, 2, ceil_mode=True), (1, 16, 14, 14)),
    "avg_pool_exclude_pad": of(
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), (1, 10, 14, 14)
    ),
    "global_avg_pool": of(nn.AdaptiveAvgPool2d(1), (1, 1000, 7, 7)),
    "adaptive_pool": of(nn.AdaptiveAvgPool2d((5, 4)), (1, 10, 13, 11)),
    "softmax": of(nn.Softmax(1), (3, 1000)),
    "layer_norm": of(nn.LayerNorm(24), (5, 24)),
    "group_norm": of(nn.GroupNorm(2, 8), (2, 8, 5, 5)),
    "argmax": of(Applied(lambda x: x.argmax(1)), (3, 40)),
    "hard_swish": of(nn.Hardswish(), (1, 6, 9, 9)),
    "sigmoid_of_a_vector": of(nn.Sigmoid(), (13,)),
    "transpose": of(Applied(lambda x: x.permute(0, 2, 3, 1).contiguous()), (1, 17, 9, 13)),
    "resize": of(nn.Upsample(scale_factor=2, mode="bilinear"), (1, 8, 5, 7)),
}
# dlight does not match the second, and schedules the third wrongly.
PLAIN = ("3x3", "adaptive_pool", "depthwise_1x1")
IN_HALF = ("1x1_odd_positions", "3x3_prelu", "depthwise_3x3", "dense_1000", "max_pool_ceil")


@lru_cache(maxsize=len(CASES) + len(IN_HALF))
def tasks_of(name: str, dtype: str = "float32") -> list[Task]:
    torch.manual_seed(0)
    make, shape = CASES[name]
    network = frontend.import_model(make().eval(), [torch.zeros(shape)])
    return tune.extract(passes.lower(network, HERE, dtype).mod)


def one_of_each_kind(task: Task) -> list[Candidate]:
    """Return the first candidate of each rule and vector length."""
    kinds: dict[tuple[str, int], Candidate] = {}
    for candidate in schedules.candidates(task.func, HERE):
        lanes = candidate.as_dict().get("lanes", 0)
        kinds.setdefault((candidate.rule, lanes), candidate)
    return list(kinds.values())


# All cases share kernels that change the layout of their inputs and results.
checked: set[str] = set()


@pytest.fixture(scope="module", params=["float32", "float16"])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    extensions = ["cl_khr_fp16"] if request.param == "float16" else []
    with LocalOpenCLDevice(extensions) as device, Builder() as builder:
        yield Bench(builder, device, HERE, tmp_path_factory.mktemp("kernels"))


def errors(task: Task, tried: list[Candidate], bench: Bench) -> list[float]:
    try:
        return bench.errors(task, tried, HERE)
    except InterruptedExecutionError as error:
        if os.environ.get("CI") == "true" or not driver("pocl").is_absolute():
            raise
        pytest.skip(f"PoCL's package may not know this processor: install libpocl2 ({error})")


def unmatched_and_wrong(name: str, dtype: str, bench: Bench) -> tuple[list[str], list[str]]:
    """Return the kernels that no rule matches, and the candidates with wrong results."""
    unmatched, wrong = [], []
    for task in tasks_of(name, dtype):
        if task.workload in checked:
            continue
        checked.add(task.workload)
        tried = one_of_each_kind(task)
        if not tried:
            unmatched.append(task.name)
        if name in PLAIN:
            tried.append(UNSCHEDULED)
        tolerance = kernel_tolerance(spec.dtype for spec in task.parameters)
        for candidate, error in zip(tried, errors(task, tried, bench), strict=True):
            if not error <= tolerance:
                wrong.append(f"{task.name}, {candidate}: {error}")
    return unmatched, wrong


@pytest.mark.parametrize("bench", ["float32"], indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_schedules_are_right(name: str, bench: Bench) -> None:
    assert unmatched_and_wrong(name, "float32", bench) == ([], [])


@pytest.mark.parametrize("bench", ["float16"], indirect=True)
@pytest.mark.parametrize("name", IN_HALF)
def test_schedules_in_half_precision(name: str, bench: Bench) -> None:
    assert unmatched_and_wrong(name, "float16", bench) == ([], [])


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("1x1_odd_positions", "gpu_tile"),
        ("3x3", "gpu_tile"),
        ("depthwise_3x3", "gpu_depthwise"),
        ("max_pool_ceil", "gpu_pooling"),
        ("hard_swish", "gpu_elementwise"),
        ("softmax", "gpu_fallback"),
    ],
)
def test_trace_replays(name: str, rule: str) -> None:
    task = next(
        task
        for task in tasks_of(name)
        if any(each.rule == rule for each in schedules.candidates(task.func, HERE))
    )
    tried = [UNSCHEDULED, *schedules.candidates(task.func, HERE)]
    traces = []
    for candidate in tried:
        scheduled = schedules.apply(task.func, candidate, HERE)
        replayed = analysis.schedule(task.func)
        scheduled.trace.apply_to_schedule(replayed, remove_postproc=False)
        tvm.ir.assert_structural_equal(replayed.mod, scheduled.mod)
        traces.append(str(scheduled.trace))
    assert len(set(traces)) == len(traces)


def work_groups(task: Task, candidate: Candidate, target: Target) -> list[int]:
    """Return the work-group sizes of the kernels of a candidate."""
    sch = schedules.apply(task.func, candidate, target)
    sizes = []
    for block in analysis.blocks(sch):
        size = 1
        for loop in map(sch.get, sch.get_loops(block)):
            if loop.thread_binding is not None and "thread" in str(loop.thread_binding.thread_tag):
                size *= int(loop.extent)
        sizes.append(size)
    return sizes


@pytest.mark.parametrize("name", ["3x3", "1x1_1000_channels", "depthwise_3x3", "max_pool_ceil"])
@pytest.mark.parametrize("limit", [16, 256])
def test_work_groups_are_within_the_limit(name: str, limit: int) -> None:
    assert HERE.gpu is not None
    changed = replace(HERE, gpu=replace(HERE.gpu, work_group=limit))
    for task in tasks_of(name):
        for candidate in schedules.candidates(task.func, changed):
            sizes = work_groups(task, candidate, changed)
            assert sizes
            assert max(sizes) <= limit


@pytest.mark.parametrize("name", ["3x3", "1x1_odd_positions"])
def test_moderate_tiles_come_first_and_all_kinds_are_tried(name: str) -> None:
    task = max(tasks_of(name), key=lambda each: each.operations)
    found = schedules.candidates(task.func, MALI)
    assert MALI.gpu is not None
    assert found[0]["rows"] * found[0]["columns"] <= MALI.gpu.registers // 2
    assert {each["lanes"] for each in found[:16]} == {4, 16}
    assert len(found) <= 30


def test_depthwise_convolution_is_never_taken_for_a_matrix_product() -> None:
    for task in tasks_of("depthwise_3x3"):
        if analysis.contraction(task.func) is not None:
            assert {c.rule for c in schedules.candidates(task.func, HERE)} == {"gpu_depthwise"}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kernel_of_each_family_is_matched(family: str) -> None:
    _, network = imported(family)
    check_matched(tune.extract(passes.lower(network, MALI).mod))


@pytest.mark.parametrize("model", ["squeezenet1_1", "mobilenet"])
def test_every_kernel_of_a_network_is_matched(model: str) -> None:
    shape = models.spec(model).input_shape
    network = frontend.import_model(models.create(model), [torch.zeros(shape)])
    check_matched(tune.extract(passes.lower(network, MALI).mod))


def check_matched(tasks: list[Task]) -> None:
    """Check that GPU rules match each kernel, and no other rules."""
    names = {rule.name for rule in (*gpu.RULES, *gpu.EXTRA_RULES)}
    for task in tasks:
        rules = {each.rule for each in schedules.candidates(task.func, MALI)}
        assert rules, task.name
        assert rules <= names

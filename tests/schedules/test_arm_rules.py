"""Extra rules, mostly for 64-bit ARM: where they match, and that they compute the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import tvm
from kernels import HOST, Bench, tasks_of
from network_modules import Residual
from torch import nn

from tvm_eff import schedules, targets
from tvm_eff.device import LocalDevice
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.builder import Builder
from tvm_eff.tune.checker import TOLERANCE

RASP4 = targets.load("rasp4")
FIRST = 3
RULES = ("depthwise_in_place", "first_layer", "strassen")

Case = tuple[nn.Module, tuple[int, ...]]

NOT_OFFERED: dict[str, Case] = {
    "depthwise_of_large_kernels": (nn.Conv2d(8, 8, 5, groups=8), (1, 8, 9, 9)),
    "depthwise_of_odd_channels": (nn.Conv2d(7, 7, 3, groups=7), (1, 7, 9, 9)),
    "depthwise_of_one_dimension": (nn.Conv1d(8, 8, 3, groups=8), (1, 8, 9)),
    "many_channels": (nn.Conv2d(4, 8, 3), (1, 4, 9, 9)),
    "odd_channels": (nn.Conv2d(3, 6, 3), (1, 3, 9, 9)),
    "groups": (nn.Conv2d(8, 8, 3, groups=2), (1, 8, 9, 9)),
    "small_matrices": (nn.Conv2d(64, 128, 1), (1, 64, 8, 8)),
    "few_positions": (nn.Conv2d(128, 128, 1), (1, 128, 5, 5)),
    "batches_of_matrices": (nn.Conv2d(128, 128, 1), (2, 128, 8, 8)),
    "strided_matrices": (nn.Conv2d(128, 128, 1, stride=2), (1, 128, 16, 16)),
}


def depthwise(height: int, width: int, *, batch: int = 1, channels: int = 8, **of: object) -> Case:
    model = nn.Conv2d(channels, channels, groups=channels, **of)  # type: ignore[arg-type]
    return nn.Sequential(model, nn.ReLU()), (batch, channels, height, width)


def first_layer(height: int, width: int, *, depth: int = 3, batch: int = 1, **of: object) -> Case:
    model = nn.Conv2d(depth, 16, **of)  # type: ignore[arg-type]
    return nn.Sequential(model, nn.ReLU()), (batch, depth, height, width)


OFFERED: dict[str, tuple[str, Case]] = {
    "depthwise": ("depthwise_in_place", depthwise(14, 14, kernel_size=3, padding=1)),
    "depthwise_smaller_than_tiles": (
        "depthwise_in_place",
        depthwise(2, 1, kernel_size=3, padding=1),
    ),
    "depthwise_of_two_images": (
        "depthwise_in_place",
        depthwise(9, 11, batch=2, kernel_size=3, padding=1),
    ),
    "depthwise_stride": (
        "depthwise_in_place",
        depthwise(15, 14, kernel_size=3, padding=1, stride=2),
    ),
    "depthwise_without_padding": ("depthwise_in_place", depthwise(9, 13, kernel_size=3)),
    "depthwise_dilation": (
        "depthwise_in_place",
        depthwise(13, 13, kernel_size=3, padding=2, dilation=2),
    ),
    "depthwise_of_one_side": (
        "depthwise_in_place",
        depthwise(7, 12, kernel_size=(1, 5), padding=(0, 2), bias=False),
    ),
    "first_layer": ("first_layer", first_layer(18, 23, kernel_size=3, padding=1, stride=2)),
    "first_layer_of_two_images": (
        "first_layer",
        first_layer(9, 11, batch=2, kernel_size=3, padding=1),
    ),
    "first_layer_without_padding": ("first_layer", first_layer(19, 19, kernel_size=7, stride=2)),
    "first_layer_of_one_channel": (
        "first_layer",
        first_layer(9, 11, depth=1, kernel_size=5, padding=2),
    ),
    "first_layer_dilation": (
        "first_layer",
        first_layer(13, 13, kernel_size=3, dilation=2, bias=False),
    ),
    "even_matrices": ("strassen", (nn.Conv2d(128, 256, 1), (1, 128, 8, 8))),
    "odd_positions": ("strassen", (nn.Conv2d(128, 128, 1, bias=False), (1, 128, 7, 7))),
    "halves_that_are_no_blocks": (
        "strassen",
        (nn.Sequential(nn.Conv2d(128, 148, 1), nn.ReLU6()), (1, 128, 7, 9)),
    ),
    "residual_matrices": ("strassen", (Residual(128, 1), (1, 128, 6, 7))),
}


def kernel(case: Case, target: Target = RASP4) -> Task:
    model, shape = case
    found = tasks_of(model, shape, target=target)
    return next(each for each in found if analysis.contraction(each.func))


def of_rules(task: Task, *rules: str, target: Target = RASP4) -> list[Candidate]:
    return [c for c in schedules.candidates(task.func, target) if c.rule in rules]


def innermost_loop(task: Task, candidate: Candidate) -> int:
    """The extent of the innermost loop around the unrolled tile."""
    sch = schedules.apply(task.func, candidate, HOST)
    work = analysis.contraction(task.func)
    assert work is not None
    loops = [sch.get(loop) for loop in sch.get_loops(sch.get_sblock(f"{work.block}_update"))]
    return int([loop for loop in loops if loop.kind == tvm.tirx.ForKind.SERIAL][-1].extent)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with LocalDevice(threads=2) as device, Builder() as builder:
        yield Bench(builder, device, HOST, tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_where_they_are_not_offered(name: str) -> None:
    assert of_rules(kernel(NOT_OFFERED[name]), *RULES) == []


@pytest.mark.parametrize("name", ["depthwise", "first_layer", "even_matrices"])
def test_not_offered_on_32_bit_arm(name: str) -> None:
    target = targets.load("rasp3-armv7")
    task = kernel(OFFERED[name][1], target)
    assert of_rules(task, *RULES, target=target) == []
    assert all("bias_first" not in c.as_dict() for c in schedules.candidates(task.func, target))


def test_x86_divides_rows_among_cores() -> None:
    if not HOST.toolchain.triple.startswith("x86_64"):
        pytest.skip("this machine is no x86")
    cores = HOST.hardware.cores
    for channels, groups in ((3, 1), (32, 32)):
        task = kernel(
            (nn.Conv2d(channels, 32, 3, padding=1, groups=groups), (1, channels, 8 * cores, 9))
        )
        found = of_rules(task, "first_layer", "depthwise_in_place", target=HOST)
        assert found
        assert all(candidate["chunks"] == cores for candidate in found)


@pytest.mark.parametrize("divided", ["rows", "channels", "vectors"])
def test_x86_loop_orders_of_positions_and_channels(divided: str, bench: Bench) -> None:
    if not HOST.private_caches:
        pytest.skip("this machine is no x86")
    cores, lanes = HOST.hardware.cores, HOST.hardware.lanes
    # Either the rows are divisible by the cores, or the channels, or neither.
    size = (6 * cores if divided == "rows" else 2 * cores + 1, 9)
    channels = 256 * cores + (lanes if divided == "vectors" else 0)
    together = {"rows": channels, "channels": channels // cores, "vectors": lanes}[divided]
    if cores == 1:
        together = channels
    torch.manual_seed(0)
    task = kernel(depthwise(*size, channels=channels, kernel_size=3, padding=1), HOST)
    found = of_rules(task, "depthwise_in_place", target=HOST)
    inner = [candidate for candidate in found if candidate.as_dict().get("channels_inner")]
    outer = [candidate for candidate in found if candidate not in inner]
    assert {candidate["together"] for candidate in inner} == {together}
    assert {innermost_loop(task, candidate) for candidate in inner} == {together // lanes}
    assert len(outer) == len(inner)
    for candidate in outer:
        assert innermost_loop(task, candidate) == -(-size[1] // candidate["across"])
    assert max(bench.errors(task, [*inner[:FIRST], *outer[:FIRST]], HOST)) <= TOLERANCE


def test_x86_has_one_loop_order_for_few_channels() -> None:
    if not HOST.private_caches:
        pytest.skip("this machine is no x86")
    task = kernel(depthwise(12, 9, channels=128, kernel_size=3, padding=1), HOST)
    few = of_rules(task, "depthwise_in_place", target=HOST)
    assert few
    assert all("channels_inner" not in candidate.as_dict() for candidate in few)


@pytest.mark.parametrize("name", OFFERED)
def test_they_compute_the_same(name: str, bench: Bench) -> None:
    torch.manual_seed(0)
    rule, case = OFFERED[name]
    task = kernel(case)
    tried = of_rules(task, rule)[:FIRST]
    assert tried
    assert max(bench.errors(task, tried, RASP4)) <= TOLERANCE


@pytest.mark.parametrize("name", ["depthwise", "first_layer", "even_matrices", "odd_positions"])
def test_traces_replay(name: str) -> None:
    rule, case = OFFERED[name]
    task = kernel(case)
    for candidate in of_rules(task, rule):
        scheduled = schedules.apply(task.func, candidate, RASP4)
        replayed = analysis.schedule(schedules.rewritten(task.func, candidate))
        scheduled.trace.apply_to_schedule(replayed, remove_postproc=False)
        tvm.ir.assert_structural_equal(replayed.mod, scheduled.mod)


def test_sums_are_initialized_with_a_bias_if_there_is_one() -> None:
    def starts(model: nn.Module) -> set[int]:
        task = kernel((model, (1, 128, 6, 7)))
        found = of_rules(task, "register_tile", "packed_pointwise")
        return {c.as_dict().get("bias_first", 0) for c in found}

    assert starts(nn.Conv2d(128, 128, 1)) == {1}
    assert starts(nn.Conv2d(128, 128, 1, bias=False)) == {0}


def test_without_the_decision_a_bias_is_an_epilogue() -> None:
    # As in records of earlier versions.
    task = kernel(OFFERED["first_layer"][1])
    new = next(c for c in of_rules(task, "register_tile"))
    decisions = {name: value for name, value in new.decisions if name != "bias_first"}
    old = schedules.apply(task.func, Candidate.of(new.rule, decisions), RASP4)
    assert "fuse_reduction_epilogue" not in str(old.trace)
    assert "fuse_reduction_epilogue" in str(schedules.apply(task.func, new, RASP4).trace)

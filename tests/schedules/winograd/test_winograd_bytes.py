"""Winograd's algorithm in integers on emulated boards: where it is offered, and exactness."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from quantized_networks import traced
from torch import nn

from tvm_eff import frontend, passes, quantize, schedules, targets, tune
from tvm_eff.codegen import build_kernel, compile_kernel
from tvm_eff.device import Device, EmulatedDevice
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.schedules.winograd import integers
from tvm_eff.schedules.winograd.match import match
from tvm_eff.schedules.winograd.rewrite_bytes import weight_function
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.checker import kernel_inputs

RULE = "winograd_bytes"
# One out of order, one in order, and 32 bits.
BOARDS = ("rasp4", "rasp3", "rasp3-armv7")

Case = tuple[Callable[[], nn.Module], tuple[int, ...]]


class Side(nn.Module):
    """Two convolutions side by side, as in a fire module: the second one writes a slice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 16, 1)
        self.one, self.three = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 24, 3, padding=1)
        self.last = nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        return self.last(torch.cat([self.one(x).relu(), self.three(x).relu()], 1))


class Residual(nn.Module):
    """A convolution to whose result its input is added."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.relu()
        return self.last(nn.functional.relu6(self.layer(x) + x))


NOT_OFFERED: dict[str, Case] = {
    "1x1": (lambda: nn.Conv2d(32, 16, 1), (1, 32, 9, 9)),
    "5x5": (lambda: nn.Conv2d(8, 16, 5, padding=2), (1, 8, 9, 9)),
    "stride": (lambda: nn.Conv2d(16, 16, 3, stride=2), (1, 16, 9, 9)),
    "dilation": (lambda: nn.Conv2d(16, 16, 3, dilation=2), (1, 16, 9, 9)),
    "groups": (lambda: nn.Conv2d(32, 16, 3, groups=2), (1, 32, 9, 9)),
    "sums_of_more_than_32_bits": (lambda: nn.Conv2d(512, 16, 3), (1, 512, 5, 5)),
    "no_equal_parts": (lambda: nn.Conv2d(76, 16, 3), (1, 76, 9, 9)),
    "no_whole_input_vector": (lambda: nn.Conv2d(6, 16, 3), (1, 6, 9, 9)),
    "no_whole_output_vector": (lambda: nn.Conv2d(16, 12, 3), (1, 16, 9, 9)),
}

EXACT: dict[str, Case] = {
    "padded": (lambda: nn.Conv2d(16, 24, 3, padding=1), (1, 16, 13, 13)),
    "most_channels": (lambda: nn.Conv2d(64, 16, 3), (1, 64, 8, 11)),
    "in_parts": (lambda: nn.Conv2d(384, 8, 3), (1, 384, 8, 11)),
    "less_than_a_tile": (lambda: nn.Conv2d(64, 32, 3, bias=False), (1, 64, 5, 4)),
    "batch": (lambda: nn.Conv2d(12, 32, 3, padding=(0, 1)), (2, 12, 7, 10)),
    "image": (lambda: nn.Conv2d(4, 8, 3, padding=1), (1, 4, 9, 9)),
    "bytes": (lambda: nn.Sequential(Side()), (1, 8, 11, 9)),
    "residual": (lambda: nn.Sequential(Residual()), (1, 32, 10, 7)),
}


def kernel(case: Case, target: Target) -> Task:
    """Return the 3x3 convolution of a network quantized for Arm."""
    make, shape = case
    torch.manual_seed(0)
    program = quantize.quantize(traced(make(), shape), None, None, "int8").program
    network = frontend.import_program(program, frontend.decompose(program))
    found = tune.extract(passes.lower(network, target, "int8").mod)
    return max(found, key=lambda each: analysis.multiply_adds(each.func))


def offered(task: Task, target: Target) -> list[Candidate]:
    return [each for each in schedules.candidates(task.func, target) if each.rule == RULE]


def tried(task: Task, target: Target) -> list[Candidate]:
    """Return the first candidate of the whole image, the first of its rows, and the last one."""
    found = offered(task, target)
    whole = next(each for each in found if not each["tile_rows"])
    rows = next(each for each in found if each["tile_rows"])
    return list(dict.fromkeys((whole, rows, found[-1])))


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest, emulator: None) -> Iterator[tuple[Target, Device]]:
    target = targets.load(request.param)
    assert target.emulator is not None
    with EmulatedDevice(target.emulator.arch, target.emulator.cpu) as device:
        yield target, device


def extremes(inputs: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Inputs of the largest magnitudes: of one sign, of random ones, and of those that add up.

    The last ones make each product of the first tile's transforms as large as it can be.
    """
    data, weight, *others = inputs
    yield [np.full_like(data, -128), np.full_like(weight, -127), *others]
    rng = np.random.default_rng(2)
    yield [_signed(rng.choice([-1, 1], each.shape), each) for each in (data, weight)] + others
    matrix = integers.weight_matrix()
    inside = np.stack([transform(list(np.eye(6, dtype=int))) for transform in _input_rows()])
    for i, j in ((1, 2), (3, 3), (4, 3), (0, 4), (5, 5)):
        signs = np.outer(inside[i], inside[j])[None, :, :, None]
        tiled = np.tile(signs, (1, 2, 3, 1))[:, : data.shape[1], : data.shape[2]]
        of_weight = np.outer(matrix[i], matrix[j])[None, :, :, None]
        both = (np.broadcast_to(tiled, data.shape), np.broadcast_to(of_weight, weight.shape))
        yield [_signed(signs, each) for signs, each in zip(both, (data, weight), strict=True)] + (
            others
        )


def _input_rows() -> list[Callable[[list[np.ndarray]], np.ndarray]]:
    def of_units(row: Callable[..., np.ndarray]) -> Callable[[list[np.ndarray]], np.ndarray]:
        return lambda units: row(units.__getitem__)

    return [of_units(row) for row in integers.input_rows(lambda value: value)]


def _signed(signs: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The largest numbers of these signs; a weight is at least -127."""
    least = -128 if like.shape[1:3] != (3, 3) else -127
    return np.where(signs < 0, least, np.where(signs > 0, 127, 0)).astype("int8")


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_where_it_does_not_apply(name: str) -> None:
    target = targets.load("rasp4")
    task = kernel(NOT_OFFERED[name], target)
    assert schedules.candidates(task.func, target)
    assert not offered(task, target)


@pytest.mark.parametrize("name", ["rasp5", "host"])
def test_not_offered_where_a_dot_product_is_one_instruction(name: str) -> None:
    task = kernel(EXACT["padded"], targets.load("rasp4"))
    assert offered(task, targets.load("rasp4"))
    assert not offered(task, targets.load(name))


@pytest.mark.parametrize("name", EXACT)
def test_exact(board: tuple[Target, Device], name: str, tmp_path: Path) -> None:
    target, device = board
    task = kernel(EXACT[name], target)
    for number, candidate in enumerate(tried(task, target)):
        library = build(task, candidate, target, tmp_path / f"{number}.so")
        require_exact(task, candidate, device, library, kernel_inputs(task.inputs))


@pytest.mark.parametrize("name", ["most_channels", "in_parts"])
def test_largest_sums_do_not_wrap(board: tuple[Target, Device], name: str, tmp_path: Path) -> None:
    target, device = board
    task = kernel(EXACT[name], target)
    # Numbers of float32: no limit of a byte hides a sum that is wrong.
    assert [spec.dtype for spec in task.outputs] == ["float32"]
    candidate = tried(task, target)[0]
    library = build(task, candidate, target, tmp_path / "kernel.so")
    for inputs in extremes(kernel_inputs(task.inputs)):
        require_exact(task, candidate, device, library, inputs)


def build(task: Task, candidate: Candidate, target: Target, library: Path) -> Path:
    build_kernel(schedules.apply(task.func, candidate, target), target, library)
    return library


def require_exact(
    task: Task, candidate: Candidate, device: Device, library: Path, inputs: list[np.ndarray]
) -> None:
    mod = tvm.IRModule({"main": task.func.with_attr("global_symbol", "main")})
    shape, dtype = task.outputs[0].shape, np.dtype(task.outputs[0].dtype)
    # As on the board, where a kernel may write a slice alone.
    untouched = np.full((*shape, dtype.itemsize), 255, "uint8").view(dtype)[..., 0]
    result = tvm.runtime.tensor(untouched)
    tvm.tirx.build(mod, target="llvm")["main"](*map(tvm.runtime.tensor, inputs), result)
    packed = schedules.pack_inputs(schedules.packings(task.func, candidate), inputs)
    (output,), _ = device.call(library, "main", packed, task.outputs)
    np.testing.assert_array_equal(output, result.numpy(), str(candidate))
    assert np.unique(result.numpy()).size > 1


@dataclass(frozen=True)
class Form:
    """A sum of products of weights and inputs along one axis: their coefficients."""

    coefficients: np.ndarray
    seen: list[int]

    def __post_init__(self) -> None:
        self.seen.append(int(np.abs(self.coefficients).sum()))

    def __add__(self, other: Form) -> Form:
        return Form(self.coefficients + other.coefficients, self.seen)

    def __sub__(self, other: Form) -> Form:
        return Form(self.coefficients - other.coefficients, self.seen)

    def __mul__(self, factor: int) -> Form:
        return Form(self.coefficients * factor, self.seen)

    def __rshift__(self, bits: int) -> Form:
        assert not np.any(self.coefficients % 2**bits), "there is a rest"
        return Form(self.coefficients >> bits, self.seen)


def test_nothing_exceeds_its_bits_and_no_division_has_a_rest() -> None:
    rows = [transform(list(np.eye(6, dtype=int))) for transform in _input_rows()]
    matrix = integers.weight_matrix()
    seen: list[int] = []
    products = [Form(np.outer(matrix[i], rows[i]), seen) for i in range(6)]
    product = max(seen)
    columns = [transform(products.__getitem__) for transform in integers.output_rows()]
    # Along an axis three weights meet as many inputs, from the position of the output on.
    for place, each in enumerate(columns):
        direct = np.eye(3, 6, place, dtype=int)
        np.testing.assert_array_equal(each.coefficients, 6 * direct)
    assert integers.DIVISOR == 6 * 6
    # Behind one axis, a column of products meets the other axis's sums.
    column = max(int(np.abs(each.coefficients).sum()) for each in columns)
    most = max(max(seen) * product, column * max(seen)) * 128 * 127
    assert most * integers.MOST_CHANNELS < 2**31 <= most * (integers.MOST_CHANNELS + 1)
    # Parts are added when both axes are transformed.
    most = 9 * integers.DIVISOR * 128 * 127
    assert most * integers.MOST_IN_PARTS < 2**31 <= most * (integers.MOST_IN_PARTS + 1)
    # Transformed inputs and weights are of 16 bits.
    for matrix_of, largest in ((np.array(rows), 128), (matrix, 128)):
        assert np.abs(matrix_of).sum(1).max() ** 2 * largest < 2**15


def test_a_padding_that_is_not_zero() -> None:
    work = match(kernel(EXACT["bytes"], targets.load("rasp4")).func, "int8")
    assert work is not None
    assert (work.padding, work.padding_value) == ((1, 1), -128)


@pytest.mark.parametrize(
    ("depth", "parts"),
    [(64, 1), (68, None), (72, 2), (96, 2), (384, 6), (404, None), (408, None), (6, None)],
)
def test_parts(depth: int, parts: int | None) -> None:
    assert integers.parts_of(depth) == parts


@pytest.mark.parametrize("name", BOARDS)
def test_instructions(name: str) -> None:
    target = targets.load(name)
    task = kernel(EXACT["most_channels"], target)
    candidate = tried(task, target)[0]
    built = compile_kernel(schedules.apply(task.func, candidate, target), target)
    text = str(built.inspect_source("s"))
    if name == "rasp3-armv7":
        assert len(re.findall(r"\bvmlal\.s16", text)) > 8
        assert "vqrdmulh.s32" in text
        return
    # By element: a factor comes from a lane.
    assert len(re.findall(r"\bsmlal2?\s+v\d+\.4s, v\d+\.[48]h, v\d+\.h\[", text)) > 50
    assert "sqrdmulh" in text
    # Bytes are widened where they are subtracted.
    assert "ssubl" in text


def test_it_comes_first_and_the_first_tile_next() -> None:
    target = targets.load("rasp4")
    first = schedules.candidates(kernel(EXACT["most_channels"], target).func, target)[:4]
    assert [each.rule for each in first] == [RULE, "dot_product_tile", "dot_product_tile", RULE]


@pytest.mark.parametrize("name", EXACT)
def test_the_library_transforms_weights_as_the_tuner_does(name: str) -> None:
    task = kernel(EXACT[name], targets.load("rasp4"))
    work = match(task.func, "int8")
    assert work is not None
    shape = tuple(int(n) for n in task.func.params[work.weight_parameter].shape)
    weight = np.random.default_rng(0).integers(-127, 128, shape).astype("int8")
    weight[0] = -127
    expected = integers.transform_weight(weight)
    function = weight_function(work).with_attr("global_symbol", "main")
    result = tvm.runtime.tensor(np.zeros(expected.shape, "int16"))
    built = tvm.tirx.build(tvm.IRModule({"main": function}), target="llvm")
    built["main"](tvm.runtime.tensor(weight), result)
    np.testing.assert_array_equal(result.numpy(), expected)


def test_each_candidate_has_its_alternative() -> None:
    target = targets.load("rasp4")
    task = kernel(EXACT["bytes"], target)
    for candidate in tried(task, target):
        found = schedules.alternative(task.func, candidate)
        assert found is not None
        assert found.name == RULE


@pytest.mark.parametrize("name", BOARDS)
def test_a_trace_replays(name: str) -> None:
    target = targets.load(name)
    task = kernel(EXACT["padded"], target)
    for candidate in tried(task, target):
        made = schedules.apply(task.func, candidate, target)
        again = analysis.schedule(schedules.rewritten(task.func, candidate))
        made.trace.apply_to_schedule(again, remove_postproc=False)
        assert tvm_ffi.structural_equal(made.mod, again.mod)

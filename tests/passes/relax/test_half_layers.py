"""Networks of which only some layers are in float16: what is refused, stored, and computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from quantized_networks import Added, Case, Gated, Joined, between, imported, traced
from torch import nn

from tvm_eff import frontend, passes, quantize, schedules, targets, tune
from tvm_eff.deploy.validate import case_of, compare
from tvm_eff.errors import UsageError, ValidationError
from tvm_eff.models import Program
from tvm_eff.quantize.precision import Precision, layers_in
from tvm_eff.tensors import MIXED, network_tolerance, random_inputs, relative_error

A76 = targets.load("rasp5")
F32: Precision = "float32"
F16: Precision = "float16"
INT8: Precision = "int8"


def mixed(model: nn.Module, shape: Sequence[int], *precisions: Precision) -> Case:
    """Lower a network whose layers, in order, are in these precisions."""
    program, original = converted(model, shape, *precisions)
    return imported(program, original, (), A76, MIXED)


def converted(
    model: nn.Module, shape: Sequence[int], *precisions: Precision
) -> tuple[Program, Program]:
    original = traced(model, shape)
    observed = quantize.observe(original, None, None, "int8")
    names = [each.name for each in observed.layers]
    chosen = dict(zip(names, precisions, strict=True))
    found = quantize.convert(observed, layers_in("int8", chosen), layers_in("float16", chosen))
    return found.program, original


def kernels(case: Case) -> dict[str, tuple[list[str], list[str]]]:
    """Return what each kernel that computes a layer or a pooling reads and writes, by its label."""
    return {
        task.label: ([each.dtype for each in task.inputs], [each.dtype for each in task.outputs])
        for task in tune.extract(case.lowered.mod)
    }


def require_right(case: Case, seed: int = 3) -> float:
    inputs = case.inputs(seed)
    tolerance = network_tolerance(MIXED)
    return compare(case.run(inputs), case_of(case.quantized, inputs), tolerance, "net", dtype=MIXED)


def pooled() -> nn.Module:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
    return between(nn.ReLU(), nn.MaxPool2d(2), depthwise, nn.ReLU6(), nn.AvgPool2d(2))


POOLED = (1, 8, 8, 8)


@pytest.mark.parametrize("name", ["rasp4", "host"])
def test_processors_without_it_are_refused(name: str) -> None:
    program, _ = converted(pooled(), POOLED, F16, F16, F16, F16)
    with pytest.raises(UsageError, match="without arithmetic in float16"):
        passes.lower(frontend.import_program(program), targets.load(name), MIXED)


def test_a_wrong_value_is_found() -> None:
    case = mixed(pooled(), POOLED, F16, F16, INT8, F32)
    inputs = case.inputs(0)
    expected = case_of(case.quantized, inputs)
    (wanted,) = expected.expected
    (moved,) = case.quantized.moved_by_chance(inputs, [wanted])
    assert 0 < moved < 0.02
    off = [wanted.copy()]
    off[0][0, 0, 0, 0] += 3 * max(moved, network_tolerance(MIXED)) * np.ptp(wanted)
    with pytest.raises(ValidationError, match="output 0 is wrong"):
        compare(off, expected, network_tolerance(MIXED), "net", dtype=MIXED)


def test_what_is_between_layers_in_float16_is_stored_in_it() -> None:
    case = mixed(pooled(), POOLED, F16, F16, F16, F16)
    found = kernels(case)
    assert found.pop("cast_transpose, 8x8x8") == ([F32], [F16])
    assert found.pop("max_pool2d, 4x4x16") == ([F16], [F16])
    last = found.pop("conv 1x1, 16 -> 4, 2x2")
    assert last == ([F16, F16, F32], [F32])
    assert found.pop("transpose, 4x2x2") == ([F32], [F32])
    assert {(reads[0], *writes) for reads, writes in found.values()} == {(F16, F16)}
    assert require_right(case) < 1e-6
    assert case.weights() == {F16}


def test_beside_integers_and_float32() -> None:
    case = mixed(pooled(), POOLED, INT8, F16, F32, INT8)
    found = kernels(case)
    assert found["conv 1x1, 8 -> 16, 8x8"][1] == [F16]  # its bytes are scaled, and stored so
    assert found["max_pool2d, 4x4x16"] == ([F16], [F16])
    assert found["depthwise 3x3, 1 -> 16, 4x4"] == ([F16, F16, F32], [F32])
    assert case.weights() == {F16, INT8}
    require_right(case)


@pytest.mark.parametrize(
    ("model", "shape", "precisions"),
    [
        (Added, (1, 8, 6, 6), (F16, F16, F16, F16)),
        (Added, (1, 8, 6, 6), (INT8, F16, F16, INT8)),
        (Added, (1, 8, 6, 6), (F32, F16, INT8, F16)),
        (Joined, (1, 8, 6, 6), (F16, INT8, F16)),
        (Joined, (1, 8, 6, 6), (F16, F16, F32)),
        (Gated, (1, 8, 6, 6), (F16, F16, INT8, F16, F32)),
    ],
)
def test_branches(
    model: type[nn.Module], shape: Sequence[int], precisions: Sequence[Precision]
) -> None:
    torch.manual_seed(0)
    require_right(mixed(model(), shape, *precisions))


def test_dense_layers_and_batch_norm() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 10)]
    case = mixed(nn.Sequential(*layers, *head), POOLED, F16, F16, F16, F16)
    assert require_right(case) < 1e-6
    assert case.weights() == {F16}


def test_it_is_nearer_to_float32_than_integers() -> None:
    def off(precision: Precision) -> float:
        program, original = converted(pooled(), POOLED, *[precision] * 4)
        inputs = random_inputs(original.network.inputs)
        return relative_error(program.run(inputs)[0], original.run(inputs)[0])

    assert 0 < 5 * off(F16) < off(INT8)


def test_schedules_of_each_layer_are_those_of_its_factors() -> None:
    """What a layer of bytes or of float32 writes in float16 does not change how it is computed."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 16, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 8, 1))

    def rules(*precisions: Precision) -> dict[str, set[str]]:
        case = mixed(model, (1, 16, 8, 8), *precisions)
        return {
            task.label: {each.rule for each in schedules.candidates(task.func, A76)}
            for task in tune.extract(case.lowered.mod)
        }

    # The first and the third are of one shape, and differ in what they read or write.
    found = rules(F16, F32, F16, F16)
    assert "half_tile" in found["conv 1x1, 16 -> 32, 8x8"]
    assert {"register_tile", "winograd"} <= found["conv 3x3, 32 -> 16, 8x8"]
    found = rules(INT8, F16, INT8, F16)
    assert found["conv 1x1, 16 -> 32, 8x8"] == {"dot_product_tile"}
    assert "half_tile" in found["conv 3x3, 32 -> 16, 8x8"]  # which writes bytes

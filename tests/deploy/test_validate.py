"""A library that computes something else never passes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from made_bundles import Maker, tensor
from torch import nn

from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.validate import (
    UndecidedError,
    case_of,
    compare,
    validate,
    validation,
    validation_cases,
)
from tvm_eff.device import Device, LocalDevice, MeasureOptions
from tvm_eff.errors import ValidationError
from tvm_eff.models import Network, trace
from tvm_eff.tensors import TOLERANCE, TensorSpec, network_tolerance


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with LocalDevice(threads=1) as opened:
        yield opened


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.flat[3] = value
    return changed


def cases(inputs: list[list[np.ndarray]], expected: list[list[np.ndarray]]) -> list[Case]:
    return [Case(*each) for each in zip(inputs, expected, strict=True)]


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        ([tensor()], [tensor(), tensor()], "1 outputs where 2 are expected"),
        ([tensor().T], [tensor()], r"output 0 is wrong: its shape is \(3, 2\) instead of \(2, 3\)"),
        ([tensor().astype("float64")], [tensor()], "its dtype is float64 instead of float32"),
        ([with_value(tensor(), np.nan)], [tensor()], "1 of its 6 values are NaN or infinite"),
        ([with_value(tensor(), np.inf)], [with_value(tensor(), -np.inf)], "largest error is inf"),
        ([tensor(), tensor() * 1.001], [tensor(), tensor()], r"output 1 .*largest error is .*e-04"),
    ],
)
def test_wrong_outputs(actual: list[np.ndarray], expected: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValidationError, match=f"it: .*{message}"):
        compare(actual, Case([], expected), 1e-5, "it")


def test_rounding_of_values_near_one_another() -> None:
    places = np.array([[0.48, 0.4801], [0.4802, 0.4804]], "float32")
    exact = Case([], [places], [places.astype("float64")])
    compare([places * np.float32(1 + 1.5e-6)], exact, TOLERANCE, "it")
    with pytest.raises(ValidationError, match="output 0 is wrong"):
        compare([places * np.float32(1 + 1e-5)], exact, TOLERANCE, "it")


SCORES = np.array([[0.0, 1.0, 5.0, 4.999]], "float32")


def test_whole_numbers_are_the_same() -> None:
    places = np.array([10, 300_000])
    with pytest.raises(ValidationError, match="output 0 is wrong"):
        compare([places + 1], Case([], [places]), TOLERANCE, "it")


class Brightest(nn.Module):
    """Where an image is brightest, and its normalised values as bytes."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = nn.functional.instance_norm((x * 0.3 + 0.1).sigmoid())
        return maps.flatten(2).argmax(-1), (maps * 20 + 128.2).to(torch.uint8)


def test_what_rounding_decides() -> None:
    """Which place of a grey image is the brightest; of any other it is known."""
    spec = TensorSpec((1, 2, 8, 8), "float32")
    program = trace(Network("brightest", Brightest().eval(), (spec,)))
    noise = np.random.default_rng(0).standard_normal(spec.shape).astype("float32")
    grey, noisy = (case_of(program, [x]) for x in (np.full_like(noise, 0.4), noise))
    with pytest.raises(UndecidedError, match="this input decides nothing"):
        compare([grey.expected[0] + 5, grey.expected[1]], grey, TOLERANCE, "it")
    for number in range(2):
        wrong = list(noisy.expected)
        wrong[number] = wrong[number] + np.ones_like(wrong[number])
        with pytest.raises(ValidationError, match=f"output {number} is wrong") as caught:
            compare(wrong, noisy, TOLERANCE, "it")
        assert not isinstance(caught.value, UndecidedError)


def test_inputs_that_decide_nothing_are_left_out(maker: Maker, device: Device) -> None:
    library, x, y = maker.library("host"), tensor(0), tensor(1)
    undecided = Case([x], [1.5 * x], exact=[1.8 * x.astype("float64")])
    right = Case([y], [2 * y])
    found, _, decided = validation(device, library, [undecided, right], "float32")
    assert (found.inputs, decided) == (1, [right])
    with pytest.raises(UndecidedError, match="input 0: output 0 is wrong"):
        validation(device, library, [undecided], "float32")
    with pytest.raises(ValidationError, match="input 1: output 0 is wrong"):
        validation(device, library, [undecided, Case([y], [y])], "float32")
    # PyTorch's own error is no excuse for one that is much larger.
    wrong = Case([x], [x], exact=[0.99 * x.astype("float64")])
    with pytest.raises(ValidationError, match="input 0: output 0 is wrong"):
        validation(device, library, [wrong, right], "float32")


def test_two_classes_that_change_places() -> None:
    swapped = SCORES[:, [0, 1, 3, 2]]
    assert compare([swapped], Case([], [SCORES]), 1e-2, "it") == pytest.approx(2e-4, rel=1e-2)
    with pytest.raises(
        ValidationError,
        match=r"output 0 is of another class: .* class 3 instead of 2, .* by 2\.0e-04 .*float32",
    ):
        compare([swapped], Case([], [SCORES]), 1e-2, "it", classes=True)


def test_outputs_that_are_no_class_scores() -> None:
    image, number = SCORES.reshape(1, 2, 2), SCORES[:, 2:3]
    for output in (image, number):
        compare([output[..., ::-1]], Case([], [output]), 1.0, "it", classes=True)


def test_every_input_has_its_class_in_float16(maker: Maker, device: Device) -> None:
    library, inputs = maker.library("host"), [[tensor(seed)] for seed in range(2)]
    expected = [[2 * x] for (x,) in inputs]
    found, *_ = validation(device, library, cases(inputs, expected), "float16")
    assert (found.dtype, found.same_class, found.inputs) == ("float16", True, 2)
    assert found.tolerance == network_tolerance("float16")
    # Two scores that are closer than the tolerance.
    inputs[1][0][0] = [0.5, 0.5001, -1.0]
    expected[1] = [2 * inputs[1][0][:, [1, 0, 2]]]
    expected[1][0][1] = 2 * inputs[1][0][1]
    with pytest.raises(ValidationError, match="input 1: output 0 is of another class"):
        validation(device, library, cases(inputs, expected), "float16")


def test_values_up_to_255_are_a_limit_in_float16_and_an_error_in_float32(
    maker: Maker, device: Device
) -> None:
    library, bright = maker.library("host"), tensor() * 255
    wrong = Case([bright], [bright], is_bright=True)
    cases = [Case([tensor()], [2 * tensor()]), wrong]
    found, *_ = validation(device, library, cases, "float16")
    assert found.inputs == 1
    assert found.half_precision_limit is not None
    assert found.half_precision_limit.startswith("output 0 is wrong: its largest error is")
    with pytest.raises(ValidationError, match="input 1: output 0 is wrong"):
        validation(device, library, cases, "float32")

    right = Case([bright], [2 * bright], is_bright=True)
    found, *_ = validation(device, library, [cases[0], right], "float16")
    assert (found.inputs, found.half_precision_limit) == (2, None)


class Picky(nn.Module):
    """Infinite less infinite above 10."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x * x) - torch.exp(x * x)


def test_values_up_to_255_that_pytorch_makes_nan_of_are_left_out() -> None:
    def cases(module: nn.Module) -> list[Case]:
        program = trace(Network("net", module, (TensorSpec((2, 3), "float32"),)))
        return validation_cases(program, None, 3)

    assert [each.is_bright for each in cases(Picky())] == [False, False]
    bright = cases(nn.ReLU())[-1]
    assert bright.is_bright and 100 < bright.inputs[0].max() < 255


def test_float32_is_not_asked_for_classes(maker: Maker, device: Device) -> None:
    found, *_ = validation(
        device, maker.library("host"), [Case([tensor()], [2 * tensor()])], "float32"
    )
    assert (found.tolerance, found.dtype, found.same_class) == (TOLERANCE, "float32", None)


def test_the_wrong_one_of_several_inputs_is_named(maker: Maker, device: Device) -> None:
    library = maker.library("host")
    inputs = [[tensor(seed)] for seed in range(3)]
    expected = [[2 * tensor(seed)] for seed in range(3)]
    expected[2] = [with_value(expected[2][0], 9.0)]
    with pytest.raises(ValidationError, match=r"scaled_host_2\.0\.so, input 2: output 0 is wrong"):
        validate(device, library, cases(inputs, expected), 1e-5)


def test_validating_nothing_is_refused(maker: Maker, device: Device) -> None:
    with pytest.raises(ValueError, match="no inputs"):
        validate(device, maker.library("host"), [], 1e-5)


def test_the_largest_error_of_all_inputs(maker: Maker, device: Device) -> None:
    inputs = [[tensor(seed)] for seed in range(2)]
    expected = [[2 * tensor(0)], [2 * tensor(1) + np.float32(1e-3)]]
    spread = float(np.ptp(expected[1][0]))
    error, measured, _ = validate(device, maker.library("host"), cases(inputs, expected), 1e-2)
    assert measured is None
    assert error == pytest.approx(1e-3 / spread, rel=1e-2)


def test_the_first_run_is_measured_where_asked(maker: Maker, device: Device) -> None:
    inputs, expected = [[tensor()]], [[2 * tensor()]]
    briefly = MeasureOptions(repeat=2, min_repeat_ms=0.0)
    _, measured, _ = validate(device, maker.library("host"), cases(inputs, expected), 1e-5, briefly)
    assert measured is not None
    assert measured.unit == device.unit
    assert measured.median > 0

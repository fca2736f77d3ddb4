"""A library that computes something else never passes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from made_bundles import Maker, tensor

from tvm_eff.deploy.validate import compare, validate
from tvm_eff.device import Device, LocalDevice, MeasureOptions
from tvm_eff.errors import ValidationError


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with LocalDevice(threads=1) as opened:
        yield opened


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.flat[3] = value
    return changed


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
        compare(actual, expected, 1e-5, "it")


def test_the_wrong_one_of_several_inputs_is_named(maker: Maker, device: Device) -> None:
    library = maker.library("host")
    inputs = [[tensor(seed)] for seed in range(3)]
    expected = [[2 * tensor(seed)] for seed in range(3)]
    expected[2] = [with_value(expected[2][0], 9.0)]
    with pytest.raises(ValidationError, match=r"scaled_host_2\.0\.so, input 2: output 0 is wrong"):
        validate(device, library, inputs, expected, 1e-5)


def test_validating_nothing_is_refused(maker: Maker, device: Device) -> None:
    with pytest.raises(ValueError, match="no inputs"):
        validate(device, maker.library("host"), [], [], 1e-5)


def test_the_largest_error_of_all_inputs(maker: Maker, device: Device) -> None:
    inputs = [[tensor(seed)] for seed in range(2)]
    expected = [[2 * tensor(0)], [2 * tensor(1) + np.float32(1e-3)]]
    spread = float(np.ptp(expected[1][0]))
    error, measured = validate(device, maker.library("host"), inputs, expected, 1e-2)
    assert measured is None
    assert error == pytest.approx(1e-3 / spread, rel=1e-2)


def test_the_first_run_is_measured_where_asked(maker: Maker, device: Device) -> None:
    inputs, expected = [[tensor()]], [[2 * tensor()]]
    briefly = MeasureOptions(repeat=2, min_repeat_ms=0.0)
    _, measured = validate(device, maker.library("host"), inputs, expected, 1e-5, briefly)
    assert measured is not None
    assert measured.unit == device.unit
    assert measured.median > 0

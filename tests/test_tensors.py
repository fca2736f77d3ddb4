"""Inputs to try a network on."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_eff.tensors import (
    OF_MAGNITUDE,
    TOLERANCE,
    TensorSpec,
    random_inputs,
    relative_error,
    validation_inputs,
    varied_inputs,
)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_inputs_are_arrays_of_their_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    spec = TensorSpec(shape, dtype)
    made = [random_inputs([spec]), *(validation_inputs([spec], n) for n in range(4))]
    for (array,) in [*made, *varied_inputs([spec]).values()]:
        assert isinstance(array, np.ndarray)
        assert (array.shape, str(array.dtype)) == (shape, dtype)


@pytest.mark.parametrize(
    ("expected", "difference", "error"),
    [
        ([-1.0, 3.0], 0.5, 0.125),
        ([1.0, 1 - 1e-6], 1e-6, 5e-6),
        ([20.0, 20.1], 0.4, 0.4 / 4.02),
        ([2.0, 2.0], 0.5, 0.25),
        ([0.0, 0.0], 0.5, 0.5),
    ],
)
def test_errors_of_floats(expected: list[float], difference: float, error: float) -> None:
    """As a fraction of their spread, unless rounding alone makes them differ."""
    wanted = np.array(expected)
    assert relative_error(wanted + difference, wanted) == pytest.approx(error)
    assert relative_error(wanted, wanted) == 0


def test_the_last_bits_of_a_float_are_within_the_tolerance() -> None:
    wanted = np.array([20.0, 20.001])
    assert relative_error(wanted + OF_MAGNITUDE * 20, wanted) <= TOLERANCE
    assert relative_error(wanted + 1.1 * OF_MAGNITUDE * 20, wanted) > TOLERANCE
    places = np.array([1000, 1001])
    assert relative_error(places + 1, places) == 1

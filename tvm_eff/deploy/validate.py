"""Does a library compute what PyTorch computes?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tvm_eff.errors import ValidationError
from tvm_eff.numerics import relative_error

if TYPE_CHECKING:
    from tvm_eff.device import Device, Measurement, MeasureOptions


def validate(
    device: Device,
    library: Path,
    inputs_list: Sequence[Sequence[np.ndarray]],
    expected_list: Sequence[Sequence[np.ndarray]],
    tolerance: float,
    measure: MeasureOptions | None = None,
) -> tuple[float, Measurement | None]:
    """Run a library's ``main`` on several inputs and compare with what is expected.

    The library stays on the device: see the device's ``run``.

    Parameters
    ----------
    device
        An open device that the library was compiled for.
    library
        The library.
    inputs_list
        What to run it on: for each run, the inputs in order.
    expected_list
        For each run, the outputs in order.
    tolerance
        The largest error allowed, as a fraction of the spread of the expected output.
    measure
        Whether and how to measure the first run.

    Returns
    -------
    tuple
        The largest error found, and the measurement if there is one.

    Raises
    ------
    ValidationError
        An output differs by more than the tolerance; the message says which.
    ExecutionError, DeviceError
        As for :meth:`tvm_eff.device.Device.run`.
    """
    if not inputs_list:
        raise ValueError("validating with no inputs would say nothing")
    largest, measured = 0.0, None
    for index, (inputs, expected) in enumerate(zip(inputs_list, expected_list, strict=True)):
        actual, measurement = device.run(
            library, inputs, measure=measure if index == 0 else None, keep=True
        )
        measured = measured or measurement
        largest = max(largest, compare(actual, expected, tolerance, f"{library}, input {index}"))
    return largest, measured


def compare(
    actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float, what: str
) -> float:
    """Return the largest error of any output.

    Parameters
    ----------
    actual, expected
        The outputs in order.
    tolerance
        The largest error allowed.
    what
        Names the run in messages.

    Raises
    ------
    ValidationError
        There are more or fewer outputs, or one differs by more than the tolerance.
    """
    if len(actual) != len(expected):
        raise ValidationError(
            f"{what}: {len(actual)} outputs where {len(expected)} are expected; the library "
            "belongs to another model: build it again"
        )
    errors = [_error(a, e) for a, e in zip(actual, expected, strict=True)]
    for index, error in enumerate(errors):
        if not error <= tolerance:
            raise ValidationError(
                f"{what}: output {index} is wrong: {_difference(actual[index], expected[index])}, "
                f"where an error of {tolerance:.1e} is allowed"
            )
    return max(errors, default=0.0)


def _error(actual: np.ndarray, expected: np.ndarray) -> float:
    return relative_error(actual, expected) if actual.dtype == expected.dtype else float("inf")


def _difference(actual: np.ndarray, expected: np.ndarray) -> str:
    if actual.shape != expected.shape:
        return f"its shape is {actual.shape} instead of {expected.shape}"
    if actual.dtype != expected.dtype:
        return f"its dtype is {actual.dtype} instead of {expected.dtype}"
    strange = int(np.count_nonzero(np.isfinite(actual) != np.isfinite(expected)))
    if strange:
        return f"{strange} of its {actual.size} values are NaN or infinite, or should be"
    return f"its largest error is {relative_error(actual, expected):.1e} of the output's spread"

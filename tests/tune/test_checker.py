"""What a candidate's result may differ by."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_eff.tune.checker import TOLERANCE, kernel_error, kernel_tolerance

IN_HALF = kernel_tolerance(["float16", "int8"])


def off_by(steps: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes, of which `count` are `steps` off, and what they should be."""
    expected = np.arange(-128, 127, dtype="int8").repeat(100)
    actual = expected.copy()
    actual[:count] += steps
    return actual, expected


@pytest.mark.parametrize(
    ("steps", "count", "tolerance"),
    [(1, 10_000, TOLERANCE), (2, 1, TOLERANCE), (2, 1, IN_HALF), (2, 10_000, IN_HALF)],
)
def test_wrong_bytes(steps: int, count: int, tolerance: float) -> None:
    assert kernel_error(*off_by(steps, count), tolerance) > tolerance


@pytest.mark.parametrize(("count", "tolerance"), [(2, TOLERANCE), (10_000, IN_HALF)])
def test_bytes_that_rounding_decides(count: int, tolerance: float) -> None:
    """A few where numbers are of float32; of float16, they may be off by half a step."""
    assert kernel_error(*off_by(1, count), tolerance) == 0

"""Inputs to try code on, and the error of what it computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE = 1e-5
"""Largest error allowed, as a fraction of the spread of the reference.

Float32 sums of a few thousand terms, taken in another order, differ by about 1e-6.
"""

OF_MAGNITUDE = 2e-6
"""What float32's last bits make of a value, as a fraction of it.

Twice what float32 sums of a few thousand terms, taken in another order, differ by: the expected
place of a heatmap's peak is a quotient of two.
"""

_LEAST_SPREAD = 0.2
"""The least spread of floats, as a fraction of the largest: OF_MAGNITUDE is within TOLERANCE.

Where all values are near one another, as such places are, or a saturated tanh, their differences
are no measure of an error: depths near 20 cannot be nearer than the rounding of 20.
"""

MIXED = "mixed"
"""The dtype of a network some of whose layers are in float16, beside others in int8 or float32."""

HALF_ROUNDOFF = 2.0**-11
"""The largest relative error of one rounding to float16."""


def kernel_tolerance(dtypes: Iterable[str]) -> float:
    """Return the largest error allowed of a kernel whose tensors have these dtypes.

    It is a fraction of the spread of the reference, which the unscheduled kernel computes
    from the same inputs. With float16, its sums are in float32 and differ as little as in a
    float32 kernel; where they lie on either side of a boundary, the rounded values are
    neighbours, two roundoffs apart. A kernel may round twice, as for ``x * sigmoid(x)``:
    four roundoffs. A schedule's sums in float16 have to stay as near.
    """
    return 4 * HALF_ROUNDOFF if "float16" in dtypes else TOLERANCE


def network_tolerance(dtype: str) -> float:
    """Return the largest error allowed of a network stored as `dtype`, against PyTorch's float32.

    It is a fraction of the spread of PyTorch's output. With float16, each layer rounds its
    weights and its result, by one roundoff at most. As such errors are independent, their
    squares add: those of 128 layers, 256 roundings, make 16 roundoffs. It is the same where
    some layers are in float16 (`MIXED`), against a reference that rounds where they do: what
    is left is the sums that a schedule keeps in float16.
    """
    return 16 * HALF_ROUNDOFF if dtype in ("float16", MIXED) else TOLERANCE


@dataclass(frozen=True)
class TensorSpec:
    """The shape and dtype of a tensor."""

    shape: tuple[int, ...]
    dtype: str


def random_inputs(specs: Sequence[TensorSpec], seed: int = 0) -> list[np.ndarray]:
    """Return inputs of the given shapes: normal floats, small integers.

    Wide integers are most often indices, which have to be in a table of unknown
    length: they are 0 or 1.
    """
    rng = np.random.default_rng(seed)
    return [_random(spec, rng) for spec in specs]


def validation_inputs(specs: Sequence[TensorSpec], number: int) -> list[np.ndarray]:
    """Return inputs to validate a network on: the first are of different kinds.

    Parameters
    ----------
    specs
        The network's inputs.
    number
        0 for noise. 1 for what images are, from 0 to 1, and for zeros where integers may be
        places in a table. 2 for images from 0 to 255, and for the whole range of narrow integers,
        their limits among them, which are no places. Noise again for all others.
    """
    if number not in (1, 2):
        return random_inputs(specs, number)
    rng = np.random.default_rng(number)
    return [_unlike_noise(spec, rng, number) for spec in specs]


def varied_inputs(specs: Sequence[TensorSpec]) -> dict[str, list[np.ndarray]]:
    """Return inputs to check an import on, by what messages call them.

    Narrow integers have their limits among them. Wide ones are 0 or 1, as they may be places.
    """
    return {
        "noise": validation_inputs(specs, 0),
        "values from 0 to 1": validation_inputs(specs, 1),
        "values from 0 to 255": validation_inputs(specs, 2),
        "ones": [np.ones(spec.shape, spec.dtype) for spec in specs],
    }


def _unlike_noise(spec: TensorSpec, rng: np.random.Generator, number: int) -> np.ndarray:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return _array((255 if number == 2 else 1) * rng.random(spec.shape), dtype)
    if number == 1:
        return np.zeros(spec.shape, dtype)
    if dtype.kind in "iu" and dtype.itemsize < 4:
        limits = np.iinfo(dtype)
        found = _array(rng.integers(limits.min, limits.max, spec.shape, dtype, True), dtype)
        found.flat[:2] = (limits.min, limits.max)[: found.size]
        return found
    return _random(spec, rng)


def _random(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return _array(rng.standard_normal(spec.shape), dtype)
    if dtype.kind == "b" or dtype.itemsize >= 4:
        return _array(rng.integers(0, 2, spec.shape), dtype)
    return _array(rng.integers(0, 8, spec.shape), dtype)


def _array(values: Any, dtype: np.dtype) -> np.ndarray:
    """Return an array also of a single number, which numpy's generators return as a scalar."""
    return np.asarray(values).astype(dtype)


def unwritten(spec: TensorSpec) -> np.ndarray:
    """Return a tensor to be filled, which shows where nothing was written: NaN, or -1."""
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return np.full(spec.shape, np.nan, spec.dtype)
    return np.full(spec.shape, -1).astype(spec.dtype)


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference as a fraction of the spread of `expected`.

    The spread is the largest value less the smallest, of floats a fifth of the largest magnitude
    at least; where all values are equal it is their magnitude, or 1 for zeros. Anything not
    finite in `actual` that is not in `expected`, and any difference of shape, is an infinite
    error.
    """
    if actual.shape != expected.shape:
        return float("inf")
    if actual.size == 0:
        return 0.0
    wide, reference = actual.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isfinite(wide), np.isfinite(reference)):
        return float("inf")
    finite = np.isfinite(reference)
    if not np.array_equal(wide[~finite], reference[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    return float(np.abs(wide[finite] - reference[finite]).max()) / _spread(
        reference[finite], is_float=expected.dtype.kind == "f"
    )


def _spread(values: np.ndarray, is_float: bool) -> float:
    differing, magnitude = float(np.ptp(values)), float(np.abs(values).max())
    if differing == 0:
        return magnitude or 1.0
    return max(differing, _LEAST_SPREAD * magnitude) if is_float else differing

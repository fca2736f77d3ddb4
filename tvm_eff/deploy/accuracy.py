"""How far an output may be from PyTorch's, and how far it is.

PyTorch's float32 is itself off what double precision gives. An output may always be off by a
few times that: a depth map near 20 cannot be nearer than the rounding of 20. And it is judged by
its channels as well as whole: beside boxes in pixels, the spread of an output hides scores that
are wrong by half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_eff.tensors import HALF_ROUNDOFF, TOLERANCE, relative_error

MORE_THAN_PYTORCH = 4
"""How many times PyTorch's own error an output's may be, whatever its spread."""

_MORE_THAN_CHANCE = 2
"""How many times as far as chance moved it an output of a quantized network may be off."""

_MOST_ALLOWED = 1e-3
"""The largest error that PyTorch's own excuses.

Where a comparison falls the other way in double precision, PyTorch's own error says nothing.
"""

_CHANNEL_TOLERANCES = {"float32": 1e-3, "float16": 0.05}
"""Largest error of a channel, as a fraction of its own spread."""

_MORE_IN_A_CHANNEL = 32
"""How many times PyTorch's own error in a channel ours may be.

Of a channel that is nearly always cut off at zero the spread says little, and the transforms of
a Winograd kernel lose a few bits more than a plain sum (Barabasz et al., ACM TOMS 46(4), 2020).
"""

_FLOAT32_ROUNDOFF = 2.0**-24
_MORE_ROUNDINGS = 16
_LEAST_VALUES = 16
"""How many values a channel must have to be judged by its own spread.

In float16, how many that are not cut off at zero: of a ReLU's channel of one small value, which is
a difference of large sums, the spread is as small as their rounding by chance.
"""


@dataclass(frozen=True)
class Case:
    """One set of inputs, and what the network makes of it.

    Attributes
    ----------
    inputs
        The inputs in order.
    expected
        PyTorch's outputs in order, in float32.
    exact
        They in double precision; None if that is not known.
    recorded_errors
        PyTorch's own errors where `exact` is not kept, as in a bundle.
    is_bright
        Whether it has values from 0 to 255, which half precision may not be up to.
    moved
        Returns which values of each output rounding decides; None if that is not known.
    by_chance
        Returns how far each output is moved if what is rounded within the network is rounded by
        chance, as a fraction of its spread; None if that is not known.
    """

    inputs: Sequence[np.ndarray]
    expected: Sequence[np.ndarray]
    exact: Sequence[np.ndarray] | None = None
    recorded_errors: Sequence[float] | None = None
    is_bright: bool = False
    moved: Callable[[], Sequence[np.ndarray] | None] | None = None
    by_chance: Callable[[], Sequence[float]] | None = None

    def allowed(self, index: int, tolerance: float, error: float) -> float:
        """Return the largest error of an output that is allowed, as a fraction of its spread.

        Parameters
        ----------
        index
            Which output.
        tolerance
            What is allowed where PyTorch is near the exact result.
        error
            What was found. Only of more than PyTorch's own error excuses is it asked what
            rounding decides: of a few values, that error may be small by chance.
        """
        own = self.reference_errors()[index]
        allowed = allowed_error(self.expected[index], tolerance, own)
        if error <= allowed or self.by_chance is None:
            return allowed
        moved = self.by_chance()[index]
        if self.exact is None:  # It is quantized: a step more or less is no small error.
            return max(allowed, _MORE_THAN_CHANCE * moved)
        return max(allowed, min(moved, _MOST_ALLOWED))

    def decided_by_rounding(self, index: int, actual: np.ndarray) -> bool:
        """Whether PyTorch too, rounding otherwise, may be off as far as a wrong output is.

        Parameters
        ----------
        index
            Which output.
        actual
            It, as it was found.
        """
        expected = self.expected[index]
        if (actual.shape, actual.dtype) != (expected.shape, expected.dtype):
            return False
        if expected.dtype.kind == "f":
            if self.exact is None:  # the largest of several inputs says nothing of this one
                return False
            own = self.reference_errors()[index]
            error = relative_error(actual, expected)
            return own > _MOST_ALLOWED and error <= MORE_THAN_PYTORCH * own
        moved = None if self.moved is None else self.moved()
        return moved is not None and bool(moved[index][actual != expected].all())

    def reference_errors(self) -> tuple[float, ...]:
        """Return PyTorch's own error of each output, as a fraction of its spread; 0 if unknown."""
        if self.exact is not None:
            return tuple(_own(a, b) for a, b in zip(self.expected, self.exact, strict=True))
        return tuple(self.recorded_errors or (0.0,) * len(self.expected))


def _own(expected: np.ndarray, exact: np.ndarray) -> float:
    """0 for an output whose float32 is infinite where double precision is not."""
    error = relative_error(expected, exact) if expected.dtype.kind == "f" else 0.0
    return error if np.isfinite(error) else 0.0


def allowed_error(expected: np.ndarray, tolerance: float, own: float) -> float:
    """Return the largest error of an output that is allowed, as a fraction of its spread.

    Whole numbers are the same, unless half precision computes them.

    Parameters
    ----------
    expected
        PyTorch's output.
    tolerance
        What is allowed where PyTorch is near the exact result.
    own
        PyTorch's own error.
    """
    if expected.dtype.kind != "f":
        return tolerance if tolerance > TOLERANCE else 0.0
    return max(tolerance, min(MORE_THAN_PYTORCH * own, _MOST_ALLOWED))


def wrong_channel(
    actual: np.ndarray, expected: np.ndarray, exact: np.ndarray, dtype: str
) -> str | None:
    """Say which channel of an output is off, and by how much of its own spread; None if none is.

    Channels are the second dimension of an image or a batch, and of sequences and lists of boxes
    whichever of the last two is the shorter one.

    Parameters
    ----------
    actual, expected
        Two outputs of one shape.
    exact
        It in double precision.
    dtype
        What the network computes in.
    """
    axis = _channel_axis(expected.shape)
    if axis is None or expected.dtype.kind != "f":
        return None
    split = [_rows(each, axis) for each in (actual, expected, exact)]
    if not all(np.isfinite(each).all() for each in split):
        return None
    found, wanted, precise = split
    own = np.abs(wanted - precise).max(axis=1)
    if dtype == "float16":
        own *= HALF_ROUNDOFF / _FLOAT32_ROUNDOFF
    spread = np.ptp(precise, axis=1)
    roundoff = HALF_ROUNDOFF if dtype == "float16" else _FLOAT32_ROUNDOFF
    allowed = np.maximum.reduce(
        [
            _CHANNEL_TOLERANCES[dtype] * spread,
            _MORE_IN_A_CHANNEL * own,
            _MORE_ROUNDINGS * roundoff * np.abs(precise).max(axis=1),
        ]
    )
    if dtype == "float16":
        allowed[_are_cut_off(precise)] = np.inf
    error = np.abs(found - wanted).max(axis=1)
    worst = int((error - allowed).argmax())
    if error[worst] <= allowed[worst]:
        return None
    share = error[worst] / (spread[worst] or 1.0)
    return (
        f"channel {worst} of dimension {axis} is off by {share:.1e} of its own spread, "
        f"where {allowed[worst] / (spread[worst] or 1.0):.1e} is allowed"
    )


def _are_cut_off(channels: np.ndarray) -> np.ndarray:
    """Which channels are zero but for a few values."""
    return np.count_nonzero(channels, axis=1) < _LEAST_VALUES


def _channel_axis(shape: Sequence[int]) -> int | None:
    if len(shape) < 2:
        return None
    axis = 2 if len(shape) == 3 and shape[2] < shape[1] else 1
    size = int(np.prod(shape))
    return axis if size // shape[axis] >= _LEAST_VALUES else None


def _rows(array: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype("float64")

"""Winograd's minimal filtering F(4 x 4, 3 x 3) in integers, without rounding anything.

The points are 0, +-1, +-2 and infinity, of which an input's transform has integers. A weight's has
fractions, so that its rows are multiplied by :data:`SCALES`; an output's transform divides by
them again, by shifts and one division at the end. Every division has no rest: a transformed column
is a convolution of integers along one axis, times 6, and a result along both, times 36.

Transforms: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015,
section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tvm_eff.schedules.rule import divisors
from tvm_eff.schedules.winograd.transforms import Filter

FILTERING = Filter(4, 3)

SCALES = (12, 6, 6, 24, 24, 3)
"""What the rows of Lavin's weight transform are multiplied by."""

DIVISOR = 36
"""What a result is multiplied by, once both axes are transformed."""

MOST_CHANNELS = 65
"""Input channels whose products are summed before they are transformed back.

Activations are within -128 to 127, weights within -127 to 127. Along one axis, a product is at most
42 of theirs in sum, a sum or difference that :func:`output_rows` computes of them 48, and a
transformed column 18, as their coefficients add up to. So nothing exceeds 48 x 42 x 128 x 127 for
each channel, and of 65 channels that is 2,130,104,320.
"""

MOST_IN_PARTS = 407
"""Input channels in all, where they are summed in parts that are added once they are transformed.

That is 36 times a result, 36 x 9 x 128 x 127 for each channel, and of 407 of them 2,143,646,208.
"""

_STEP, _LEAST_OF_PART = 4, 16

Value = TypeVar("Value", bound=Any)
Elements = Callable[[int], Value]
"""Returns an element of a row or column of a tile."""

_WEIGHTS = np.array([[3, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 3]])


def parts_of(depth: int) -> int | None:
    """Return into how many equal parts input channels are divided, whose sums are of 32 bits.

    Parameters
    ----------
    depth
        Input channels.

    Returns
    -------
    int or None
        None where sums would exceed 32 bits, or parts would be too short.
    """
    if depth > MOST_IN_PARTS:
        return None
    found = (n for n in divisors(depth, depth // _STEP) if depth // n % _STEP == 0)
    parts = next((n for n in found if depth // n <= MOST_CHANNELS), None)
    return None if parts is None or (parts > 1 and depth // parts < _LEAST_OF_PART) else parts


def weight_matrix() -> np.ndarray:
    """Return the weight transform, size x kernel size, in integers."""
    return _WEIGHTS.copy()


def transform_weight(weight: np.ndarray) -> np.ndarray:
    """Return weights of int8 [output channel, row, column, input channel], transformed in 2-D.

    Returns
    -------
    numpy.ndarray
        int16 [output channel, 6, 6, input channel]: at most 49 x 128.
    """
    wide = np.einsum("iy,jx,oyxc->oijc", _WEIGHTS, _WEIGHTS, weight.astype(np.int64))
    return np.ascontiguousarray(wide.astype(np.int16))


def input_rows(wide: Callable[[Any], Any]) -> list[Callable[[Elements[Value]], Value]]:
    """Return, for each row of the input transform, a function of a column of a tile.

    Differences of neighbours come first, which Arm has instructions for that widen bytes.

    Parameters
    ----------
    wide
        Returns an element or a factor in the dtype of the results.
    """

    def difference(d: Elements[Value], one: int, other: int) -> Value:
        return wide(d(one)) - wide(d(other))

    def even(d: Elements[Value]) -> Value:
        return difference(d, 4, 2) - wide(d(2)) * wide(3)

    def odd(d: Elements[Value]) -> Value:
        return difference(d, 3, 1) - wide(d(1)) * wide(3)

    def double(d: Elements[Value]) -> Value:
        return difference(d, 3, 1) * wide(2)

    return [
        lambda d: difference(d, 4, 2) + difference(d, 0, 2) * wide(4),
        lambda d: even(d) + odd(d),
        lambda d: even(d) - odd(d),
        lambda d: difference(d, 4, 2) + double(d),
        lambda d: difference(d, 4, 2) - double(d),
        lambda d: difference(d, 5, 3) - difference(d, 3, 1) * wide(4),
    ]


def output_rows() -> list[Callable[[Elements[Value]], Value]]:
    """Return, for each row of the output transform, six times it as a function of the products."""
    return [
        lambda m: (m(1) + m(2)) + ((m(0) + ((m(3) + m(4)) >> 1)) >> 1),
        lambda m: (m(1) - m(2)) + ((m(3) - m(4)) >> 1),
        lambda m: (m(1) + m(2)) + (m(3) + m(4)),
        lambda m: (m(1) - m(2)) + ((m(3) - m(4)) + m(5)) * 2,
    ]

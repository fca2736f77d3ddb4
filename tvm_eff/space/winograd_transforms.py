"""The transforms of Winograd's minimal filtering F(m x m, 3 x 3), from their points.

A tile of m outputs is a product of polynomials, evaluated at m + 1 points and at
infinity and interpolated (Toom and Cook; A. Lavin and S. Gray, "Fast Algorithms for
Convolutional Neural Networks", 2015, sections 4.1 and 4.2). The points are 0 and
pairs of opposite ones, which share their additions. For m = 4 they are 0, +-1/sqrt(2)
and +-sqrt(2): with Lavin's +-1 and +-2 the largest error in float32 is five times
as large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

KERNEL = 3
PAIRS: dict[int, tuple[float, ...]] = {2: (1.0,), 4: (math.sqrt(0.5), math.sqrt(2.0))}
"""For each size of an output tile, the positive points."""

Value = TypeVar("Value", bound=Any)
Elements = Callable[[int], Value]
"""Looks up an element of a row or column of a tile."""


def transform_weight(weight: np.ndarray, tile: int) -> np.ndarray:
    """Return weights [output channel, 3, 3, input channel] transformed in both directions.

    Returns
    -------
    numpy.ndarray
        [output channel, tile + 2, tile + 2, input channel].
    """
    matrix = weight_matrix(tile)
    wide = np.einsum("iy,jx,oyxc->oijc", matrix, matrix, weight.astype(np.float64))
    return np.ascontiguousarray(wide.astype(weight.dtype))


def weight_matrix(tile: int) -> np.ndarray:
    """Return the weight transform, (tile + 2) x 3: evaluation, divided for interpolation."""
    points = _points(tile)
    rows = [
        [p**k / math.prod(p - q for q in points if q != p) for k in range(KERNEL)] for p in points
    ]
    return np.array([*rows, [0.0] * (KERNEL - 1) + [1.0]])


def input_rows(tile: int) -> list[Callable[[Elements[Value]], Value]]:
    """Return, for each row of the input transform, what computes it from a column of a tile.

    The rows of opposite points are even part plus and minus odd part, written alike so
    that a compiler computes the parts once.
    """
    points = _points(tile)
    rows = [_weighted(_polynomial([q for q in points if q])[::2], 0)]
    for point in PAIRS[tile]:
        others = _polynomial([q for q in points if q not in (0.0, point, -point)])
        even = _weighted(others[::2], 2)
        odd = _weighted([point * c for c in others[::2]], 1)
        rows += [_plus(even, odd), _minus(even, odd)]
    return [*rows, _weighted(_polynomial(points)[1::2], 1)]


def output_rows(tile: int) -> list[Callable[[Elements[Value]], Value]]:
    """Return, for each row of the output transform, what computes it from the products."""

    def row(power: int) -> Callable[[Elements[Value]], Value]:
        def compute(element: Elements[Value]) -> Value:
            terms = [element(0)] if power == 0 else []
            for number, point in enumerate(PAIRS[tile]):
                one, other = element(2 * number + 1), element(2 * number + 2)
                both = one - other if power % 2 else one + other
                terms.append(_times(both, point**power))
            if power == tile - 1:
                terms.append(element(tile + 1))
            return sum(terms[1:], terms[0])

        return compute

    return [row(power) for power in range(tile)]


def _points(tile: int) -> list[float]:
    return [0.0, *(sign * p for p in PAIRS[tile] for sign in (1.0, -1.0))]


def _polynomial(roots: Sequence[float]) -> list[float]:
    """Coefficients of the polynomial with these roots, the constant one first."""
    return [round(float(c), 12) for c in np.atleast_1d(np.poly(roots))[::-1]]


def _weighted(coefficients: Sequence[float], first: int) -> Callable[[Elements[Value]], Value]:
    """Sum every second element from `first` on, each times its coefficient."""

    def compute(element: Elements[Value]) -> Value:
        terms = [_times(element(first + 2 * k), c) for k, c in enumerate(coefficients)]
        return sum(terms[1:], terms[0])

    return compute


def _plus(
    one: Callable[[Elements[Value]], Value], other: Callable[[Elements[Value]], Value]
) -> Callable[[Elements[Value]], Value]:
    return lambda element: one(element) + other(element)


def _minus(
    one: Callable[[Elements[Value]], Value], other: Callable[[Elements[Value]], Value]
) -> Callable[[Elements[Value]], Value]:
    return lambda element: one(element) - other(element)


def _times(value: Value, factor: float) -> Value:
    return value if factor == 1.0 else value * factor

"""The transforms of Winograd's minimal filtering F(m x m, r x r), from interpolation points.

A tile of m outputs is a product of polynomials, evaluated at m + r - 2 points and at
infinity and interpolated (Toom and Cook; A. Lavin and S. Gray, "Fast Algorithms for
Convolutional Neural Networks", 2015, sections 4.1 and 4.2). The points are 0 and
pairs of opposite ones, which share their additions. For tiles of 6 inputs they are 0,
+-1/sqrt(2) and +-sqrt(2): with Lavin's +-1 and +-2 the largest error of F(4 x 4, 3 x 3)
in float32 is five times as large.

A convolution of stride s is equivalent to one of stride 1 with s x s times the channels:
its even and odd rows and columns, each with its own part of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

PAIRS: dict[int, tuple[float, ...]] = {4: (1.0,), 6: (math.sqrt(0.5), math.sqrt(2.0))}
"""For each size of an input tile, the positive points."""

Value = TypeVar("Value", bound=Any)
Elements = Callable[[int], Value]
"""Returns an element of a row or column of a tile."""

Constant = Callable[[float], Any]
"""Returns a factor as a number of the elements' dtype."""


@dataclass(frozen=True)
class Filter:
    """F(m x m, r x r): m x m outputs of an r x r kernel are computed together.

    Attributes
    ----------
    tile
        m, rows and columns of an output tile.
    kernel_size
        r, rows and columns of the kernel.
    """

    tile: int
    kernel_size: int

    @property
    def size(self) -> int:
        """Rows and columns of an input tile, and of a transformed tile."""
        return self.tile + self.kernel_size - 1


def filters(kernel_size: int) -> list[Filter]:
    """Return the filters that :data:`PAIRS` has points for, smallest tile first."""
    return [Filter(size - kernel_size + 1, kernel_size) for size in PAIRS if size > kernel_size]


def transform_weight(weight: np.ndarray, filtering: Filter, stride: int) -> np.ndarray:
    """Return weights [output channel, row, column, input channel], transformed in 2-D.

    Returns
    -------
    numpy.ndarray
        [output channel, size, size, stride x stride x input channel].
    """
    outer, kernel, _, inner = weight.shape
    kernel_size = filtering.kernel_size
    more = stride * kernel_size - kernel
    padded = np.pad(weight.astype(np.float64), ((0, 0), (0, more), (0, more), (0, 0)))
    parts = padded.reshape(outer, kernel_size, stride, kernel_size, stride, inner).transpose(
        0, 1, 3, 2, 4, 5
    )
    matrix = weight_matrix(filtering)
    wide = np.einsum(
        "iy,jx,oyxc->oijc", matrix, matrix, parts.reshape(outer, kernel_size, kernel_size, -1)
    )
    return np.ascontiguousarray(wide.astype(weight.dtype))


def weight_matrix(filtering: Filter) -> np.ndarray:
    """Return the weight transform, size x kernel_size: evaluation, scaled for interpolation."""
    points, kernel_size = _points(filtering.size), filtering.kernel_size
    rows = [
        [p**k / math.prod(p - q for q in points if q != p) for k in range(kernel_size)]
        for p in points
    ]
    return np.array([*rows, [0.0] * (kernel_size - 1) + [1.0]])


def input_rows(
    filtering: Filter, constant: Constant = float
) -> list[Callable[[Elements[Value]], Value]]:
    """Return, for each row of the input transform, a function of a column of a tile.

    The rows of opposite points are even part plus and minus odd part, written alike so
    that common subexpressions are eliminated.
    """
    points = _points(filtering.size)
    rows = [_weighted(_polynomial([q for q in points if q])[::2], 0, constant)]
    for point in PAIRS[filtering.size]:
        others = _polynomial([q for q in points if q not in (0.0, point, -point)])
        even = _weighted(others[::2], 2, constant)
        odd = _weighted([point * c for c in others[::2]], 1, constant)
        rows += [_plus(even, odd), _minus(even, odd)]
    return [*rows, _weighted(_polynomial(points)[1::2], 1, constant)]


def output_rows(
    filtering: Filter, constant: Constant = float
) -> list[Callable[[Elements[Value]], Value]]:
    """Return, for each row of the output transform, a function of the products."""
    size = filtering.size

    def row(power: int) -> Callable[[Elements[Value]], Value]:
        def compute(element: Elements[Value]) -> Value:
            terms = [element(0)] if power == 0 else []
            for number, point in enumerate(PAIRS[size]):
                one, other = element(2 * number + 1), element(2 * number + 2)
                both = one - other if power % 2 else one + other
                terms.append(_times(both, point**power, constant))
            if power == filtering.tile - 1:
                terms.append(element(size - 1))
            return sum(terms[1:], terms[0])

        return compute

    return [row(power) for power in range(filtering.tile)]


def _points(size: int) -> list[float]:
    return [0.0, *(sign * p for p in PAIRS[size] for sign in (1.0, -1.0))]


def _polynomial(roots: Sequence[float]) -> list[float]:
    """Coefficients of the polynomial with these roots, the constant one first."""
    return [round(float(c), 12) for c in np.atleast_1d(np.poly(roots))[::-1]]


def _weighted(
    coefficients: Sequence[float], first: int, constant: Constant
) -> Callable[[Elements[Value]], Value]:
    """Sum every second element from `first` on, each times its coefficient."""

    def compute(element: Elements[Value]) -> Value:
        terms = [_times(element(first + 2 * k), c, constant) for k, c in enumerate(coefficients)]
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


def _times(value: Value, factor: float, constant: Constant) -> Value:
    return value if factor == 1.0 else value * constant(factor)

"""Distances between points, and products of three tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tvm import relax

from tvm_eff.frontend.arithmetic import Converter
from tvm_eff.frontend.nodes import UnsupportedError, arguments_of, shape_of

_MOST_DIFFERENCES = 2**24
"""How many coordinates may be subtracted from one another: all differences are kept."""


def _cdist(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``_cdist_forward(x, y, p, compute_mode)``: of all pairs, in either way that it may take."""
    arguments: tuple[Any, ...] = node.args
    x, y, p = arguments[:3]
    first, second = importer.env[x], importer.env[y]
    _require_few(math.prod([*shape_of(node), shape_of(x)[-1]]))
    emit = importer.block_builder.emit
    rank = len(shape_of(x))
    one = emit(relax.op.expand_dims(first, rank - 1))
    other = emit(relax.op.expand_dims(second, len(shape_of(y)) - 2))
    return _norm(emit(relax.op.subtract(one, other)), float(p), importer)


def _pdist(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``_pdist_forward(x, p=2)``: of the pairs of rows, each once."""
    given = arguments_of(node)
    count, width = shape_of(node.args[0])
    _require_few(shape_of(node)[0] * width)
    if count < 2:
        raise UnsupportedError("there is no pair of points")
    rows = [np.asarray(each, "int32") for each in np.triu_indices(count, 1)]
    x = importer.env[node.args[0]]
    emit = importer.block_builder.emit
    one, other = (emit(relax.op.take(x, relax.const(each), 0, mode="clip")) for each in rows)
    return _norm(emit(relax.op.subtract(one, other)), float(given["p"]), importer)


def _require_few(count: int) -> None:
    if count > _MOST_DIFFERENCES:
        raise UnsupportedError(
            f"the differences of all points have {count} coordinates, and at most "
            f"{_MOST_DIFFERENCES} are supported; multiply matrices instead"
        )


def _norm(difference: relax.Expr, p: float, importer: Any) -> relax.Var:
    """The p-norm along the last axis."""
    emit = importer.block_builder.emit
    dtype = str(difference.ty.dtype)
    size = emit(relax.op.abs(difference))
    if p == 0:
        other = emit(relax.op.not_equal(size, relax.const(0, dtype)))
        return emit(relax.op.sum(relax.op.astype(other, dtype), [-1]))
    if p == 1:
        return emit(relax.op.sum(size, [-1]))
    if math.isinf(p):
        return emit(relax.op.max(size, [-1]))
    if p == 2:
        squares = emit(relax.op.multiply(difference, difference))
        return emit(relax.op.sqrt(emit(relax.op.sum(squares, [-1]))))
    powers = emit(relax.op.power(size, relax.const(p, dtype)))
    return emit(relax.op.power(emit(relax.op.sum(powers, [-1])), relax.const(1 / p, dtype)))


def _trilinear(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``_trilinear(a, b, c, expand_a, expand_b, expand_c, sumdim)``: ``bilinear`` is one.

    Each tensor lacks the axes that are expanded; the product of all three is summed up.
    """
    arguments: tuple[Any, ...] = node.args
    tensors, expanded, summed = arguments[:3], arguments[3:6], arguments[6]
    rank = len(shape_of(tensors[0])) + len(expanded[0])
    letters = [
        [axis for axis in range(rank) if axis not in {each % rank for each in lacking}]
        for lacking in expanded
    ]
    _require_equal(letters, [shape_of(each) for each in tensors])
    kept = [axis for axis in range(rank) if axis not in {each % rank for each in summed}]
    words = ",".join(_subscripts(each) for each in letters) + "->" + _subscripts(kept)
    values = tuple(importer.env[each] for each in tensors)
    return importer.block_builder.emit(relax.op.einsum(values, words))


def _subscripts(axes: Sequence[int]) -> str:
    return "".join(chr(ord("a") + axis) for axis in axes)


def _require_equal(letters: Sequence[Sequence[int]], shapes: Sequence[Sequence[int]]) -> None:
    extents: dict[int, int] = {}
    for axes, shape in zip(letters, shapes, strict=True):
        for axis, extent in zip(axes, shape, strict=True):
            if extents.setdefault(axis, extent) != extent:
                raise UnsupportedError("its operands are broadcast against one another")


CONVERTERS: dict[str, Converter] = {
    "_cdist_forward.default": _cdist,
    "_pdist_forward.default": _pdist,
    "_trilinear.default": _trilinear,
}
"""By ATen name."""

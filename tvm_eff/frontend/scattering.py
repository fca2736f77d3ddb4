"""Operators that write to places of a tensor which are computed from the input.

Each place of the result asks all values whether they are for it: a comparison for each pair of a
value and a place along one axis. It takes no atomic addition, is the same each time, and is right
for places that are named several times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tvm import relax

from tvm_eff.frontend.arithmetic import Converter, cast, least_of, most_of
from tvm_eff.frontend.nodes import UnsupportedError, arguments_of, shape_of

_MOST_PAIRS = 2**24
"""How many pairs of a value and a place there may be: what all of them are is kept."""


@dataclass(frozen=True)
class _Writing:
    """Values on their way to places along an axis.

    Attributes
    ----------
    chosen
        Whether a value is for a place: the places along `axis`, the values along the next one.
    values
        The values along the axis after `axis`, which has an extent of 1.
    """

    chosen: relax.Expr
    values: relax.Expr
    axis: int

    def each_or(self, other: relax.Expr) -> relax.Expr:
        """Each value where it is for a place, and something else where it is not."""
        return relax.op.where(self.chosen, self.values, other)


def _writing(
    indices: relax.Expr, values: relax.Expr, shape: Sequence[int], axis: int, importer: Any
) -> _Writing:
    """Values of the shape of their indices, on their way to a tensor of `shape`.

    Where they are fewer than the tensor has along other axes, they are none for its end.
    """
    emit = importer.block_builder.emit
    given = [int(extent) for extent in indices.ty.shape]
    pairs = int(np.prod([*shape, given[axis]], dtype="int64"))
    if pairs > _MOST_PAIRS:
        raise UnsupportedError(
            f"there are {pairs} pairs of values and places, and at most {_MOST_PAIRS} are "
            "supported; write it with torch.where or a sum"
        )
    missing = [0 if d == axis else shape[d] - given[d] for d in range(len(shape))]
    if any(missing):
        widths = [width for each in missing for width in (0, each)]
        # No place has the number -1.
        indices = emit(relax.op.nn.pad(indices, widths, pad_value=-1))
        values = emit(relax.op.nn.pad(values, widths))
    along = [-1 if d == axis else 1 for d in range(len(shape) + 1)]
    places = np.arange(shape[axis], dtype=str(indices.ty.dtype)).reshape(along)
    wanted = emit(relax.op.expand_dims(indices, axis))
    chosen = emit(relax.op.equal(wanted, relax.const(places, str(places.dtype))))
    return _Writing(chosen, emit(relax.op.expand_dims(values, axis)), axis)


def _of_node(node: torch.fx.Node, source: relax.Expr, importer: Any) -> _Writing:
    arguments: tuple[Any, ...] = node.args
    x, dim, index = arguments[:3]
    shape, given = shape_of(x), shape_of(index)
    if not shape:
        raise UnsupportedError("it writes to a single number")
    if given != [int(extent) for extent in source.ty.shape]:
        axes = list(range(len(given)))
        source = importer.block_builder.emit(
            relax.op.strided_slice(source, axes, [0] * len(given), given)
        )
    return _writing(importer.env[index], source, shape, int(dim) % len(shape), importer)


def _scatter(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``scatter(x, dim, index, src or value)``: of several values for a place the last one."""
    x = importer.env[node.args[0]]
    dtype = str(x.ty.dtype)
    source: Any = node.args[3]
    if not isinstance(source, torch.fx.Node):
        value = relax.const(source, dtype)
        index = importer.env[node.args[2]]
        filled = importer.block_builder.emit(relax.op.full(list(index.ty.shape), value, dtype))
        return _last(x, _of_node(node, filled, importer), importer)
    return _last(x, _of_node(node, cast(importer.env[source], dtype, importer), importer), importer)


def _last(x: relax.Expr, writing: _Writing, importer: Any) -> relax.Var:
    emit = importer.block_builder.emit
    axis = writing.axis
    count = int(writing.chosen.ty.shape[axis + 1])
    rank = int(x.ty.ndim)
    numbers = np.arange(count, dtype="int64").reshape(
        [-1 if d == axis + 1 else 1 for d in range(rank + 1)]
    )
    nothing = relax.const(-1, "int64")
    last = emit(relax.op.where(writing.chosen, relax.const(numbers, "int64"), nothing))
    last = emit(relax.op.max(last, [axis + 1]))
    values = emit(relax.op.squeeze(writing.values, [axis]))
    taken = emit(
        relax.op.gather_elements(
            values, emit(relax.op.maximum(last, relax.const(0, "int64"))), axis
        )
    )
    written = emit(relax.op.greater_equal(last, relax.const(0, "int64")))
    return emit(relax.op.where(written, taken, x))


def _scatter_add(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``scatter_add(x, dim, index, src)``."""
    return _reduced(node, "sum", include=True, importer=importer)


def _scatter_reduce(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``scatter_reduce(x, dim, index, src, reduce, include_self=True)``."""
    given = arguments_of(node)
    return _reduced(node, given["reduce"], include=given["include_self"], importer=importer)


def _reduced(node: torch.fx.Node, name: str, *, include: bool, importer: Any) -> relax.Var:
    emit = importer.block_builder.emit
    x = importer.env[node.args[0]]
    dtype = str(x.ty.dtype)
    source = cast(importer.env[node.args[3]], dtype, importer)
    writing = _of_node(node, source, importer)
    values_axis = [writing.axis + 1]
    reduce, combine, neutral = _REDUCTIONS["sum" if name == "mean" else name]
    start = relax.const(neutral(dtype), dtype)
    found = emit(reduce(emit(writing.each_or(start)), values_axis))
    count = emit(relax.op.sum(emit(relax.op.astype(writing.chosen, "int32")), values_axis))
    if include:
        found = emit(combine(found, x))
        count = emit(relax.op.add(count, relax.const(1, "int32")))
    if name == "mean":
        number = relax.op.maximum(count, relax.const(1, "int32"))
        divide = relax.op.divide if dtype.startswith("float") else relax.op.floor_divide
        found = emit(divide(found, emit(relax.op.astype(number, dtype))))
    if include:
        return found
    written = emit(relax.op.greater(count, relax.const(0, "int32")))
    return emit(relax.op.where(written, found, x))


_REDUCTIONS: dict[str, tuple[Any, Any, Callable[[str], float]]] = {
    "sum": (relax.op.sum, relax.op.add, lambda dtype: 0),
    "prod": (relax.op.prod, relax.op.multiply, lambda dtype: 1),
    "amax": (relax.op.max, relax.op.maximum, least_of),
    "amin": (relax.op.min, relax.op.minimum, most_of),
}
"""How to reduce along an axis, two operands, and what changes nothing."""


def flat_position(
    places: Sequence[relax.Expr | None], shape: Sequence[int], importer: Any
) -> relax.Expr:
    """Return where places along several axes are along those axes made one."""
    emit = importer.block_builder.emit
    position: relax.Expr | None = None
    for extent, each in zip(shape, places, strict=False):
        if each is None:
            continue
        along = emit(relax.op.astype(each, "int64"))
        if position is not None:
            before = emit(relax.op.multiply(position, relax.const(extent, "int64")))
            along = emit(relax.op.add(before, along))
        position = along
    assert position is not None
    return position


def put_computed(
    x: relax.Expr,
    shape: Sequence[int],
    places: Sequence[relax.Expr | None],
    values: relax.Expr,
    accumulate: bool,
    importer: Any,
) -> relax.Var:
    """Write values to places that are computed, ``x[..., places, ...] = values``.

    Parameters
    ----------
    x, shape
        The tensor written to.
    places
        Those along each axis, which broadcast against one another and are inside of it; None for
        all of an axis. The axes that have some are beside one another.
    values
        They broadcast to what is written to.
    accumulate
        Whether they are added.
    importer
        TVM's.
    """
    emit = importer.block_builder.emit
    listed = [axis for axis, each in enumerate(places) if each is not None]
    first, last = listed[0], listed[-1]
    if listed != list(range(first, last + 1)):
        raise UnsupportedError("the places are along axes that are apart; permute them before")
    position = flat_position(places, shape, importer)
    given = [int(extent) for extent in position.ty.shape]
    count = int(np.prod(given, dtype="int64"))
    before, behind = list(shape[:first]), list(shape[last + 1 :])
    merged = [*before, int(np.prod(shape[first : last + 1], dtype="int64")), *behind]
    values = emit(relax.op.broadcast_to(values, [*before, *given, *behind]))
    values = emit(relax.op.reshape(values, [*before, count, *behind]))
    position = emit(relax.op.reshape(position, [*[1] * first, count, *[1] * len(behind)]))
    position = emit(relax.op.broadcast_to(position, [*before, count, *behind]))
    flat = emit(relax.op.reshape(x, merged))
    writing = _writing(position, values, merged, first, importer)
    if not accumulate:
        return emit(relax.op.reshape(_last(flat, writing, importer), list(shape)))
    dtype = str(x.ty.dtype)
    added = emit(relax.op.sum(emit(writing.each_or(relax.const(0, dtype))), [first + 1]))
    return emit(relax.op.reshape(emit(relax.op.add(flat, added)), list(shape)))


def _masked_scatter(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``masked_scatter(x, mask, source)``: the values one after the other where the mask is."""
    emit = importer.block_builder.emit
    shape = shape_of(node)
    dtype = str(importer.env[node.args[0]].ty.dtype)
    x, mask = (importer.env[each] for each in node.args[:2])
    x, mask = (emit(relax.op.broadcast_to(each, shape)) for each in (x, mask))
    source = cast(importer.env[node.args[2]], dtype, importer)
    ones = emit(relax.op.astype(emit(relax.op.reshape(mask, [-1])), "int32"))
    before = emit(relax.op.subtract(emit(relax.op.cumsum(ones, 0)), relax.const(1, "int32")))
    places = emit(relax.op.maximum(before, relax.const(0, "int32")))
    taken = emit(relax.op.take(emit(relax.op.reshape(source, [-1])), places, 0, mode="clip"))
    return emit(relax.op.where(mask, emit(relax.op.reshape(taken, shape)), x))


CONVERTERS: dict[str, Converter] = {
    "masked_scatter.default": _masked_scatter,
    "scatter.src": _scatter,
    "scatter.value": _scatter,
    "scatter_add.default": _scatter_add,
    "scatter_reduce.two": _scatter_reduce,
}
"""By ATen name."""

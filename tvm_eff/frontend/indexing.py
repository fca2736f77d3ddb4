"""Operators that read and write places of a tensor that other tensors name.

PyTorch counts negative places from the end; TVM's importer takes them as they are, and its
kernels read outside of the memory. Where the places are constants, as those that ``x[:, rows]``
is made of mostly are, they become positions in the flat tensor here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tvm import relax

from tvm_eff.frontend import constants
from tvm_eff.frontend.arithmetic import Converter, cast
from tvm_eff.frontend.nodes import arguments_of, shape_of

_MOST_REPEATED = 16
"""How often a place may be added to in one ``index_put``: each time is an operation."""


def _index(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``x[..., indices, ...]``."""
    x = importer.env[node.args[0]]
    shape = shape_of(node.args[0])
    arguments: tuple[Any, ...] = node.args
    given = list(arguments[1])
    places = _constant(given)
    listed = [(axis, each) for axis, each in enumerate(given) if each is not None]
    if places is not None and len(listed) == 1 and listed[0][1].meta["val"].dtype != torch.bool:
        axis = listed[0][0]
        at = np.arange(shape[axis])[places[axis]].astype("int32")
        return importer.block_builder.emit(relax.op.take(x, relax.const(at), axis, mode="clip"))
    if places is not None:
        return _take_flat(x, _positions(shape, places), importer)
    if any(each.meta["val"].dtype == torch.bool for _, each in listed):
        raise ValueError("a mask makes a result whose size is not known; use torch.where")
    before = {each: importer.env[each] for _, each in listed}
    try:
        for axis, each in listed:
            importer.env[each] = _within(before[each], shape[axis], importer)
        return importer._index_tensor(node)
    finally:
        importer.env.update(before)


def _index_put(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``x[..., indices, ...] = values``, or added to with ``accumulate``."""
    x = importer.env[node.args[0]]
    shape = shape_of(node.args[0])
    arguments: tuple[Any, ...] = node.args
    given, source = list(arguments[1]), arguments[2]
    accumulate = arguments_of(node)["accumulate"]
    values = cast(importer.env[source], str(x.ty.dtype), importer)
    places = _constant(given)
    listed = [axis for axis, each in enumerate(given) if each is not None]
    if places is not None and len(listed) == 1 and not accumulate:
        axis = listed[0]
        at = np.arange(shape[axis])[places[axis]]
        if at.ndim == 1:
            return _put_along(x, shape, axis, at, values, shape_of(source), importer)
    if places is not None:
        return _put_constant(x, shape, places, values, shape_of(source), accumulate, importer)
    mask = given[0]
    if len(given) != 1 or mask.meta["val"].dtype != torch.bool or _size(shape_of(source)) != 1:
        raise ValueError(
            "values are written to places that are computed from the input; write it with "
            "torch.where or scatter"
        )
    trailing = len(shape) - len(shape_of(mask))
    condition = _emit(
        importer, relax.op.reshape, importer.env[mask], [*shape_of(mask), *[1] * trailing]
    )
    number = _emit(importer, relax.op.reshape, values, [1] * len(shape))
    written = _emit(importer, relax.op.add, x, number) if accumulate else number
    return _emit(importer, relax.op.where, condition, written, x)


def _slice(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``slice(x, dim=0, start=None, end=None, step=1)``: the ends may be negative or outside."""
    shape = shape_of(node.args[0])
    axis, start, end, step = _window(node, len(shape))
    places = range(shape[axis])[slice(start, end, step)]
    if not places:
        raise ValueError("the slice is empty")
    if (start or 0) >= 0 and (end is None or end >= 0):
        return importer._slice(node)
    x = importer.env[node.args[0]]
    window = relax.op.strided_slice(x, [axis], [places.start], [places[-1] + 1], [places.step])
    return importer.block_builder.emit(window)


def _slice_scatter(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``slice_scatter(x, values, dim=0, start=None, end=None, step=1)``."""
    shape = shape_of(node.args[0])
    axis, start, end, step = _window(node, len(shape))
    at = np.arange(shape[axis])[start:end:step]
    return _scatter(node, axis, at, shape_of(node.args[1]), importer)


def _window(node: torch.fx.Node, rank: int) -> tuple[int, int | None, int | None, int]:
    given = arguments_of(node)
    return given["dim"] % rank, given["start"], given["end"], given["step"]


def _select_scatter(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``select_scatter(x, values, dim, index)``: the values lack the dimension."""
    arguments: tuple[Any, ...] = node.args
    _, source, dim, index = arguments
    shape = shape_of(node.args[0])
    axis = int(dim) % len(shape)
    values = shape_of(source)
    values.insert(axis, 1)
    return _scatter(node, axis, np.arange(shape[axis])[[int(index)]], values, importer)


def _scatter(
    node: torch.fx.Node, axis: int, at: np.ndarray, values_shape: list[int], importer: Any
) -> relax.Expr:
    x, source = importer.env[node.args[0]], importer.env[node.args[1]]
    values = cast(source, str(x.ty.dtype), importer)
    if values_shape != shape_of(node.args[1]):
        values = _emit(importer, relax.op.reshape, values, values_shape)
    return _put_along(x, shape_of(node.args[0]), axis, at, values, values_shape, importer)


def _put_along(
    x: relax.Expr,
    shape: Sequence[int],
    axis: int,
    at: np.ndarray,
    values: relax.Expr,
    values_shape: Sequence[int],
    importer: Any,
) -> relax.Expr:
    """Write values, which broadcast as in PyTorch, to places of one axis; the last one stays."""
    if not len(at):
        return x
    own = axis - (len(shape) - len(values_shape))
    if own >= 0 and values_shape[own] != 1:
        origin = np.zeros(shape[axis], "int32")
        origin[at] = np.arange(len(at))
        values = importer.block_builder.emit(
            relax.op.take(values, relax.const(origin), own, mode="clip")
        )
    chosen = np.zeros([shape[axis] if each == axis else 1 for each in range(len(shape))], bool)
    chosen.reshape(-1)[at] = True
    return _emit(importer, relax.op.where, relax.const(chosen), values, x)


def _put_constant(
    x: relax.Expr,
    shape: Sequence[int],
    places: Sequence[np.ndarray | slice],
    values: relax.Expr,
    values_shape: Sequence[int],
    accumulate: bool,
    importer: Any,
) -> relax.Expr:
    """Where each element comes from is known: from `x`, or from one of the values."""
    positions = _positions(shape, places)
    numbers = np.arange(_size(values_shape)).reshape(values_shape)
    sources = np.broadcast_to(numbers, positions.shape).ravel()
    result = x
    for chosen, origin in _rounds(positions.ravel(), sources, _size(shape), accumulate):
        taken = _take_flat(values, origin.reshape(shape), importer)
        written = _emit(importer, relax.op.add, result, taken) if accumulate else taken
        condition = relax.const(chosen.reshape(shape))
        result = _emit(importer, relax.op.where, condition, written, result)
    return result


def _rounds(
    positions: np.ndarray, sources: np.ndarray, size: int, accumulate: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Which elements are written, and from which value; in several rounds where they add up."""
    if not accumulate:
        origin = np.zeros(size, "int64")
        origin[positions] = sources
        return [(np.isin(np.arange(size), positions), origin)]
    found: list[tuple[np.ndarray, np.ndarray]] = []
    while len(positions):
        if len(found) == _MOST_REPEATED:
            raise ValueError(f"a place is added to more than {_MOST_REPEATED} times; use a sum")
        _, first = np.unique(positions, return_index=True)
        origin, chosen = np.zeros(size, "int64"), np.zeros(size, bool)
        origin[positions[first]] = sources[first]
        chosen[positions[first]] = True
        found.append((chosen, origin))
        positions, sources = np.delete(positions, first), np.delete(sources, first)
    return found


def _select(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``select(x, dim, index)``: one place, from the end if it is negative."""
    arguments: tuple[Any, ...] = node.args
    x, dim, index = arguments
    shape = shape_of(x)
    axis = int(dim) % len(shape)
    place = relax.const(int(index) % shape[axis], "int64")
    return importer.block_builder.emit(relax.op.take(importer.env[x], place, axis, mode="clip"))


def _index_select(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``index_select(x, dim, indices)``: PyTorch refuses places outside."""
    arguments: tuple[Any, ...] = node.args
    x, axis, indices = arguments
    return importer.block_builder.emit(
        relax.op.take(importer.env[x], importer.env[indices], int(axis), mode="clip")
    )


def _embedding(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``embedding(weight, indices)``: PyTorch refuses places outside."""
    weight, indices = importer.env[node.args[0]], importer.env[node.args[1]]
    shape = shape_of(node.args[1])
    flat = _emit(importer, relax.op.reshape, indices, [-1]) if len(shape) != 1 else indices
    found = importer.block_builder.emit(relax.op.take(weight, flat, 0, mode="clip"))
    if len(shape) == 1:
        return found
    return _emit(importer, relax.op.reshape, found, [*shape, shape_of(node.args[0])[1]])


def _constant(given: Sequence[torch.fx.Node | None]) -> list[np.ndarray | slice] | None:
    """The places as NumPy takes them; None if one is computed from an input."""
    found: list[np.ndarray | slice] = []
    for each in given:
        value = slice(None) if each is None else constants.value_of(each)
        if value is None:
            return None
        found.append(value if isinstance(value, slice) else value.numpy())
    return found


def _positions(shape: Sequence[int], places: Sequence[np.ndarray | slice]) -> np.ndarray:
    """Which elements of the flat tensor an indexed one is made of; PyTorch indexes as NumPy."""
    return np.arange(_size(shape)).reshape(shape)[tuple(places)]


def _take_flat(x: relax.Expr, positions: np.ndarray, importer: Any) -> relax.Expr:
    flat = _emit(importer, relax.op.reshape, x, [-1])
    indices = relax.const(positions.ravel().astype("int32"))
    taken = importer.block_builder.emit(relax.op.take(flat, indices, 0, mode="clip"))
    return _emit(importer, relax.op.reshape, taken, list(positions.shape))


def _within(indices: relax.Expr, extent: int, importer: Any) -> relax.Expr:
    """Count negative places from the end, and keep all of them inside."""
    dtype = str(indices.ty.dtype)

    def number(value: int) -> relax.Constant:
        return relax.const(value, dtype)

    negative = _emit(importer, relax.op.less, indices, number(0))
    from_end = _emit(importer, relax.op.add, indices, number(extent))
    counted = _emit(importer, relax.op.where, negative, from_end, indices)
    least = _emit(importer, relax.op.maximum, counted, number(0))
    return _emit(importer, relax.op.minimum, least, number(extent - 1))


def _emit(importer: Any, operator: Any, *arguments: Any) -> relax.Expr:
    return importer.block_builder.emit(operator(*arguments))


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype="int64"))


CONVERTERS: dict[str, Converter] = {
    "embedding.default": _embedding,
    "index.Tensor": _index,
    "index_put.default": _index_put,
    "index_select.default": _index_select,
    "select.int": _select,
    "select_scatter.default": _select_scatter,
    "slice.Tensor": _slice,
    "slice_scatter.default": _slice_scatter,
}

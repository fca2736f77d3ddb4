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
from tvm_eff.frontend.nodes import UnsupportedError, arguments_of, shape_of
from tvm_eff.frontend.scattering import flat_position, put_computed

_MOST_ADDED = 2**24
"""How many values one ``index_put`` may add up: as many for each place as for the busiest one."""


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
        return take_flat(x, _positions(shape, places), importer)
    within = [
        None if each is None else _within(importer.env[each], shape[axis], importer)
        for axis, each in enumerate(given)
    ]
    return _take_computed(x, shape, within, importer)


def _take_computed(
    x: relax.Expr, shape: list[int], places: Sequence[relax.Expr | None], importer: Any
) -> relax.Expr:
    """Places along axes that are apart make the first axes of the result."""
    listed = [axis for axis, each in enumerate(places) if each is not None]
    first, last = listed[0], listed[-1]
    position = flat_position(places, shape, importer)
    if listed != list(range(first, last + 1)):
        order = [*listed, *(axis for axis in range(len(shape)) if axis not in listed)]
        x = _emit(importer, relax.op.permute_dims, x, order)
        shape = [shape[axis] for axis in order]
        first, last = 0, len(listed) - 1
    before, behind = shape[:first], shape[last + 1 :]
    merged = _emit(
        importer, relax.op.reshape, x, [*before, _size(shape[first : last + 1]), *behind]
    )
    given = [int(extent) for extent in position.ty.shape]
    flat = _emit(importer, relax.op.reshape, position, [_size(given)])
    taken = importer.block_builder.emit(relax.op.take(merged, flat, first, mode="clip"))
    return _emit(importer, relax.op.reshape, taken, [*before, *given, *behind])


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
    if all(each is None or each.meta["val"].dtype != torch.bool for each in given):
        within = [
            None if each is None else _within(importer.env[each], shape[axis], importer)
            for axis, each in enumerate(given)
        ]
        return put_computed(x, shape, within, values, accumulate, importer)
    trailing = len(shape) - len(shape_of(mask))
    leading = shape_of(source)[: max(0, len(shape_of(source)) - trailing)]
    if len(given) != 1 or _size(leading) != 1:
        raise UnsupportedError(
            "several values are written where a mask is; write it with torch.where or "
            "masked_scatter"
        )
    condition = _emit(
        importer, relax.op.reshape, importer.env[mask], [*shape_of(mask), *[1] * trailing]
    )
    each = _emit(importer, relax.op.reshape, values, shape_of(source)[len(leading) :])
    written = _emit(importer, relax.op.add, x, each) if accumulate else each
    return _emit(importer, relax.op.where, condition, written, x)


def _slice(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``slice(x, dim=0, start=None, end=None, step=1)``: the ends may be negative or outside."""
    shape = shape_of(node.args[0])
    axis, start, end, step = _window(node, len(shape))
    places = range(shape[axis])[slice(start, end, step)]
    if not places:
        raise UnsupportedError("the slice is empty")
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
    if accumulate:
        return _add_constant(x, shape, positions.ravel(), sources, values, importer)
    origin = np.zeros(_size(shape), "int64")
    origin[positions.ravel()] = sources
    taken = take_flat(values, origin.reshape(shape), importer)
    written = np.isin(np.arange(_size(shape)), positions).reshape(shape)
    return _emit(importer, relax.op.where, relax.const(written), taken, x)


def _add_constant(
    x: relax.Expr,
    shape: Sequence[int],
    positions: np.ndarray,
    sources: np.ndarray,
    values: relax.Expr,
    importer: Any,
) -> relax.Expr:
    """Add values to positions in the flat tensor, several of them to some."""
    if not len(positions):
        return x
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    # How many of its position are before each value.
    turn = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    rounds = int(turn.max()) + 1
    if rounds * _size(shape) > _MOST_ADDED:
        raise UnsupportedError(
            f"a place is added to {rounds} times, and there are {_size(shape)}; use a sum"
        )
    origin = np.zeros((rounds, _size(shape)), "int64")
    chosen = np.zeros((rounds, _size(shape)), bool)
    origin[turn, ordered] = sources[order]
    chosen[turn, ordered] = True
    whole = [rounds, *shape]
    taken = take_flat(values, origin.reshape(whole), importer)
    dtype = str(x.ty.dtype)
    nothing = relax.const(0, dtype)
    added = _emit(importer, relax.op.where, relax.const(chosen.reshape(whole)), taken, nothing)
    total = _emit(importer, relax.op.sum, added, [0])
    return _emit(importer, relax.op.add, x, total)


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


def _as_strided(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``as_strided(x, size, stride, storage_offset=None)`` of a tensor that is all of its memory.

    Of what PyTorch has as a view, it would be places of what is viewed.
    """
    given = arguments_of(node)
    x: Any = node.args[0]
    value = x.meta["val"]
    if not value.is_contiguous() or value.storage_offset():
        raise UnsupportedError("it looks at the memory of a view; call .contiguous() before")
    size, stride = ([int(each) for each in given[name]] for name in ("size", "stride"))
    places = np.full(size, int(given["storage_offset"] or 0))
    for axis, (extent, step) in enumerate(zip(size, stride, strict=True)):
        along = [-1 if each == axis else 1 for each in range(len(size))]
        places += (np.arange(extent) * step).reshape(along)
    if places.size and places.max() >= value.numel():
        raise UnsupportedError("it looks at memory behind its input; call .contiguous() before")
    return take_flat(importer.env[x], places, importer)


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


def take_flat(x: relax.Expr, positions: np.ndarray, importer: Any) -> relax.Expr:
    """Return elements of the flat tensor, in the shape of their positions."""
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
    "as_strided.default": _as_strided,
    "embedding.default": _embedding,
    "index.Tensor": _index,
    "index_put.default": _index_put,
    "index_select.default": _index_select,
    "select.int": _select,
    "select_scatter.default": _select_scatter,
    "slice.Tensor": _slice,
    "slice_scatter.default": _slice_scatter,
}

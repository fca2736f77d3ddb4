"""Pooling with a divisor of its own, and with the places of the largest values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tvm import relax

from tvm_eff.frontend.arithmetic import Converter, least_of
from tvm_eff.frontend.nodes import UnsupportedError, along_each, arguments_of, shape_of

_MOST_TAPS = 128
"""How many inputs a window may have whose largest one's place is asked for."""

Window = tuple[int, int]
"""Where a window begins along an axis, and where it ends."""


def asks_for(node: torch.fx.Node, result: int) -> bool:
    """Return whether one of a node's results is used."""
    return any(user.args[1] == result for user in node.users)


def _average(rank: int, usual: str) -> Converter:
    """``avg_poolNd`` with ``divisor_override``: sums of windows, divided by a number."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        given = arguments_of(node)
        divisor = given["divisor_override"]
        if divisor is None:
            return getattr(importer, usual)(node)
        emit = importer.block_builder.emit
        x = importer.env[node.args[0]]
        kernel, padding = along_each(given["kernel_size"], rank), along_each(given["padding"], rank)
        stride = along_each(given["stride"] or kernel, rank)
        before, after = shape_of(node.args[0])[-rank:], shape_of(node)[-rank:]
        # All that the last windows see, as far as that lies beyond the padding.
        behind = [
            max(0, (outputs - 1) * step + width - extent - front)
            for outputs, step, width, extent, front in zip(
                after, stride, kernel, before, padding, strict=True
            )
        ]
        sides = [side for pair in zip(padding, behind, strict=True) for side in pair]
        batched = int(x.ty.ndim) == rank + 2
        padded = emit(relax.op.nn.pad(x, [0] * (2 * int(x.ty.ndim) - len(sides)) + sides))
        if not batched:
            padded = emit(relax.op.expand_dims(padded, 0))
        pool = {2: relax.op.nn.avg_pool2d, 3: relax.op.nn.avg_pool3d}[rank]
        mean = emit(pool(padded, kernel, stride, count_include_pad=True))
        if not batched:
            mean = emit(relax.op.squeeze(mean, [0]))
        factor = relax.const(math.prod(kernel) / divisor, str(x.ty.dtype))
        return emit(relax.op.multiply(mean, factor))

    return convert


def _maximum(rank: int, usual: str) -> Converter:
    """``max_poolNd_with_indices``: TVM's if only the values are used."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        if not asks_for(node, 1):
            value = getattr(importer, usual)(node)
            return importer.block_builder.emit(relax.Tuple([value, value]))
        given = arguments_of(node)
        kernel = along_each(given["kernel_size"], rank)
        stride = along_each(given["stride"] or kernel, rank)
        padding, dilation = along_each(given["padding"], rank), along_each(given["dilation"], rank)
        shape = shape_of(node.args[0])
        outputs = [int(extent) for extent in node.meta["val"][0].shape][-rank:]
        places = [
            [[i * s - p + k * d for k in range(width)] for i in range(count)]
            for count, s, p, d, width in zip(
                outputs, stride, padding, dilation, kernel, strict=True
            )
        ]
        return _with_places(importer.env[node.args[0]], shape, places, importer)

    return convert


def largest_with_places(
    x: relax.Expr, shape: Sequence[int], windows: Sequence[Sequence[Window]], importer: Any
) -> relax.Var:
    """Return the largest values in windows along the last axes, and where they are.

    Parameters
    ----------
    x, shape
        The tensor.
    windows
        Those along each of the last axes.
    importer
        TVM's.
    """
    widest = [max(end - begin for begin, end in along) for along in windows]
    places = [
        [[begin + k if begin + k < end else -1 for k in range(width)] for begin, end in along]
        for along, width in zip(windows, widest, strict=True)
    ]
    return _with_places(x, shape, places, importer)


def _with_places(
    x: relax.Expr,
    shape: Sequence[int],
    places: Sequence[Sequence[Sequence[int]]],
    importer: Any,
) -> relax.Var:
    """The first of the largest values of each window, or the last NaN, as in PyTorch.

    Parameters
    ----------
    places
        Along each axis, for each window, its places; those outside of the tensor are none.
    """
    rank = len(places)
    extents = shape[-rank:]
    taps = list(itertools.product(*(range(len(along[0])) for along in places)))
    if len(taps) > _MOST_TAPS:
        raise UnsupportedError(
            f"the places of the largest of {len(taps)} values are not supported, but of at most "
            f"{_MOST_TAPS}; use only the values"
        )
    outer = list(shape[:-rank])
    emit = importer.block_builder.emit
    flat = emit(relax.op.reshape(x, [*outer, -1]))
    best: relax.Expr | None = None
    at: relax.Expr | None = None
    for tap in taps:
        positions, inside = _positions(places, tap, extents)
        shaped = [*[1] * len(outer), *positions.shape]
        indices = relax.const(positions.ravel().astype("int32"))
        value = emit(relax.op.take(flat, indices, len(outer), mode="clip"))
        value = emit(relax.op.reshape(value, [*outer, *positions.shape]))
        place = relax.const(positions.reshape(shaped), "int64")
        if best is None or at is None:
            # Of a window that begins outside the first place inside, and less than all values.
            least = relax.const(least_of(str(x.ty.dtype)), str(x.ty.dtype))
            best = emit(relax.op.broadcast_to(least, [*outer, *positions.shape]))
            at = relax.const(_first(places, extents).reshape(shaped), "int64")
            at = emit(relax.op.broadcast_to(at, [*outer, *positions.shape]))
        more = relax.op.greater(value, best)
        if str(x.ty.dtype).startswith("float"):
            more = relax.op.logical_or(more, relax.op.isnan(value))
        chosen = emit(relax.op.logical_and(more, relax.const(inside.reshape(shaped))))
        best = emit(relax.op.where(chosen, value, best))
        at = emit(relax.op.where(chosen, place, at))
    return emit(relax.Tuple([best, at]))


def _positions(
    places: Sequence[Sequence[Sequence[int]]], tap: Sequence[int], extents: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where in the flat tensor each window has its value of a number, and whether it has one."""
    axes = [
        np.asarray([window[step] for window in along])
        for along, step in zip(places, tap, strict=True)
    ]
    grids = np.meshgrid(*axes, indexing="ij")
    inside = np.ones(grids[0].shape, bool)
    for grid, extent in zip(grids, extents, strict=True):
        inside &= (grid >= 0) & (grid < extent)
    clipped = [np.clip(g, 0, extent - 1) for g, extent in zip(grids, extents, strict=True)]
    return np.ravel_multi_index(clipped, tuple(extents)).astype("int64"), inside


def _first(places: Sequence[Sequence[Sequence[int]]], extents: Sequence[int]) -> np.ndarray:
    """The first place inside of each window."""
    axes = [
        np.asarray([next((p for p in window if 0 <= p < extent), 0) for window in along])
        for along, extent in zip(places, extents, strict=True)
    ]
    grids = np.meshgrid(*axes, indexing="ij")
    return np.ravel_multi_index(grids, tuple(extents)).astype("int64")


CONVERTERS: dict[str, Converter] = {
    "avg_pool2d.default": _average(2, "_avg_pool2d"),
    "avg_pool3d.default": _average(3, "_avg_pool3d"),
    "max_pool2d_with_indices.default": _maximum(2, "_max_pool2d"),
    "max_pool3d_with_indices.default": _maximum(3, "_max_pool3d"),
}
"""By ATen name."""

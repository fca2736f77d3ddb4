"""Resizing and adaptive pooling: each output along an axis is made of a few inputs.

Which ones, and with what weights, PyTorch itself is asked for: it resizes the unit vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tvm import relax

from tvm_eff.frontend import pooling
from tvm_eff.frontend.arithmetic import Converter
from tvm_eff.frontend.nodes import UnsupportedError, arguments_of, shape_of

_BESIDE = 4
"""The extent of the axis that stays, beside which an operator is asked for its weights."""

_MOST_TAPS = 8
"""How many inputs an output may have that are looked up; of more, a matrix product is made."""


def _resized(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``upsample_MODE2d``, by sizes or by factors, which PyTorch takes as they are."""
    x = importer.env[node.args[0]]
    shape = shape_of(node.args[0])
    for axis in (2, 3):
        x = _along(x, axis, shape, _matrix(node, axis, shape[axis]), importer)
        shape[axis] = shape_of(node)[axis]
    return x


def _antialiased(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``_upsample_MODE2d_aa``, but not what PyTorch 2.13 computes all rows of as one."""
    height, width = shape_of(node)[2:]
    if width == 1 and height > 1:
        raise UnsupportedError(
            "to a width of 1, PyTorch's antialiasing gives all rows the same values; take the mean "
            "along the width, or resize without antialias"
        )
    return _resized(node, importer)


def _bilinear(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``upsample_bilinear2d.vec``: TVM's, but where the factor is not the ratio of the sizes."""
    factors = arguments_of(node).get("scale_factors")
    sizes = zip(shape_of(node)[2:], shape_of(node.args[0])[2:], factors or (), strict=False)
    # TVM divides by one less than an output's extent.
    divides = 1 not in shape_of(node)[2:] or not arguments_of(node)["align_corners"]
    if divides and all(after == before * factor for after, before, factor in sizes):
        return importer._upsample_bilinear2d(node)
    return _resized(node, importer)


def _nearest(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``upsample_nearest2d``, which rounds down; TVM's converter rounds half pixels."""
    before, after = shape_of(node.args[0])[2:], shape_of(node)[2:]
    if any(a % b for a, b in zip(after, before, strict=True)):
        return _resized(node, importer)
    return importer.block_builder.emit(
        relax.op.image.resize2d(
            importer.env[node.args[0]],
            tuple(after),
            layout="NCHW",
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        )
    )


def _matrix(node: torch.fx.Node, axis: int, extent: int) -> np.ndarray:
    """What the operator does along one axis, as a matrix of outputs by inputs."""
    given = arguments_of(node)
    # Beside it an axis that stays: with an extent of 1 PyTorch 2.13's antialiasing is wrong.
    shape = [1, extent, *((extent, 1) if axis == 2 else (1, extent))]
    beside = [1, extent, *((extent, _BESIDE) if axis == 2 else (_BESIDE, extent))]
    unit = torch.eye(extent).reshape(shape).expand(beside).contiguous()
    size = [shape_of(node)[each] if each == axis else _BESIDE for each in (2, 3)]
    factors = given.get("scale_factors")
    if factors is None:
        given["output_size"] = size
    else:
        given["scale_factors"] = [factors[0], 1.0] if axis == 2 else [1.0, factors[1]]
    other = "scales_w" if axis == 2 else "scales_h"
    _, *others = [None if name == other else value for name, value in given.items()]
    target: Any = node.target
    resized = target(unit, *others)
    return resized[0].select(2 if axis == 2 else 1, 0).T.contiguous().numpy()


def _along(
    x: relax.Expr, axis: int, shape: Sequence[int], matrix: np.ndarray, importer: Any
) -> relax.Expr:
    """The sums of the inputs that the outputs along an axis have weights for."""
    places = [np.flatnonzero(row) for row in matrix]
    if max(len(each) for each in places) > _MOST_TAPS:
        return _multiplied(x, axis, shape, matrix, importer)
    emit = importer.block_builder.emit
    total: relax.Expr | None = None
    for tap in range(max(len(each) for each in places)):
        # Behind its last input an output has it again, with no weight.
        at = [each[min(tap, len(each) - 1)] for each in places]
        weights = [row[at[i]] if tap < len(places[i]) else 0 for i, row in enumerate(matrix)]
        taken = emit(relax.op.take(x, relax.const(np.asarray(at, "int32")), axis, mode="clip"))
        if any(weight != 1 for weight in weights):
            extents = [-1 if each == axis else 1 for each in range(len(shape))]
            factor = relax.const(np.asarray(weights, "float32").reshape(extents))
            taken = emit(relax.op.multiply(taken, factor))
        total = taken if total is None else emit(relax.op.add(total, taken))
    assert total is not None
    return total


def _multiplied(
    x: relax.Expr, axis: int, shape: Sequence[int], matrix: np.ndarray, importer: Any
) -> relax.Expr:
    emit = importer.block_builder.emit
    rows = int(np.prod(shape[:axis], dtype="int64"))
    columns = int(np.prod(shape[axis + 1 :], dtype="int64"))
    if columns == 1:
        flat = emit(relax.op.reshape(x, [rows, shape[axis]]))
        sums = emit(relax.op.matmul(flat, relax.const(np.ascontiguousarray(matrix.T))))
    else:
        flat = emit(relax.op.reshape(x, [rows, shape[axis], columns]))
        sums = emit(relax.op.matmul(relax.const(matrix), flat))
    return emit(relax.op.reshape(sums, [*shape[:axis], len(matrix), *shape[axis + 1 :]]))


def _adaptive_average(rank: int, usual: str) -> Converter:
    """``adaptive_avg_poolNd``: TVM's where all windows are of one size, or sums of windows."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        before, after = shape_of(node.args[0]), shape_of(node)
        first = len(before) - rank
        if all(b % a == 0 for a, b in zip(after[first:], before[first:], strict=True)):
            return getattr(importer, usual)(node)
        x = importer.env[node.args[0]]
        for axis in range(first, len(before)):
            x = _along(x, axis, before, _means(before[axis], after[axis]), importer)
            before[axis] = after[axis]
        return x

    return convert


def _means(extent: int, size: int) -> np.ndarray:
    matrix = np.zeros((size, extent), "float32")
    for place, (begin, end) in enumerate(_windows(extent, size)):
        matrix[place, begin:end] = 1 / (end - begin)
    return matrix


def _adaptive_maximum(rank: int) -> Converter:
    """``adaptive_max_poolNd(x, size)``: the values, and their places if they are used."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x = importer.env[node.args[0]]
        before = shape_of(node.args[0])
        after = [int(extent) for extent in node.meta["val"][0].shape]
        if pooling.asks_for(node, 1):
            first = len(before) - rank
            windows = [_windows(b, a) for b, a in zip(before[first:], after[first:], strict=True)]
            return pooling.largest_with_places(x, before, windows, importer)
        for axis in range(len(before) - rank, len(before)):
            x = _largest(x, axis, _windows(before[axis], after[axis]), importer)
        return importer.block_builder.emit(relax.Tuple([x, x]))

    return convert


def _largest(
    x: relax.Expr, axis: int, windows: Sequence[tuple[int, int]], importer: Any
) -> relax.Expr:
    """The maximum of all first elements of the windows, all second ones, and so on."""
    emit = importer.block_builder.emit
    total: relax.Expr | None = None
    for step in range(max(end - begin for begin, end in windows)):
        # Of a window that is shorter the last element once more, which changes nothing.
        at = np.asarray([min(begin + step, end - 1) for begin, end in windows], "int32")
        taken = emit(relax.op.take(x, relax.const(at), axis, mode="clip"))
        total = taken if total is None else emit(relax.op.maximum(total, taken))
    assert total is not None
    return total


def _windows(extent: int, size: int) -> list[tuple[int, int]]:
    """The windows of adaptive pooling, as in PyTorch's AdaptivePooling.h."""
    return [(i * extent // size, -(-(i + 1) * extent // size)) for i in range(size)]


def _grid_sample(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``grid_sampler_2d(x, grid, mode, padding, align_corners)``; TVM has places first."""
    arguments: tuple[Any, ...] = node.args
    x, grid, mode, padding, aligned = arguments
    places = importer.block_builder.emit(relax.op.permute_dims(importer.env[grid], [0, 3, 1, 2]))
    return importer.block_builder.emit(
        relax.op.image.grid_sample(
            importer.env[x],
            places,
            method=("bilinear", "nearest", "bicubic")[int(mode)],
            layout="NCHW",
            padding_mode=("zeros", "border", "reflection")[int(padding)],
            align_corners=bool(aligned),
        )
    )


CONVERTERS: dict[str, Converter] = {
    "_adaptive_avg_pool2d.default": _adaptive_average(2, "_adaptive_avg_pool2d"),
    "_adaptive_avg_pool3d.default": _adaptive_average(3, "_adaptive_avg_pool3d"),
    "_upsample_bicubic2d_aa.default": _antialiased,
    "_upsample_bilinear2d_aa.default": _antialiased,
    "adaptive_avg_pool1d.default": _adaptive_average(1, "_adaptive_avg_pool1d"),
    "adaptive_max_pool2d.default": _adaptive_maximum(2),
    "adaptive_max_pool3d.default": _adaptive_maximum(3),
    "grid_sampler_2d.default": _grid_sample,
    "upsample_bicubic2d.vec": _resized,
    "upsample_bilinear2d.vec": _bilinear,
    "_upsample_nearest_exact2d.vec": _resized,
    "upsample_nearest2d.vec": _nearest,
}

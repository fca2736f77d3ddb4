"""Converters of PyTorch operators that TVM's importer lacks or gets wrong, by ATen name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tvm import relax

from tvm_eff.frontend import arithmetic, indexing, sampling
from tvm_eff.frontend.arithmetic import Converter


def _reduction(operator: Callable[..., relax.Expr]) -> Converter:
    """``amax(x, dim=[], keepdim=False)``: over one dimension, several, or all by default."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x, given, keep = _arguments(node, importer, [], False)
        axes = [given] if isinstance(given, int) else list(given)
        return importer.block_builder.emit(operator(x, axes or None, bool(keep)))

    return convert


def _extreme(largest: bool) -> Converter:
    """``amax(x, dim=[], keepdim=False)``: over one dimension, several, or all by default."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x, given, keep = _arguments(node, importer, [], False)
        axes = [given] if isinstance(given, int) else list(given)
        return _emit_extreme(x, axes, bool(keep), largest, importer)

    return convert


def _emit_extreme(
    x: relax.Expr, axes: list[int], keep: bool, largest: bool, importer: Any
) -> relax.Var:
    """The largest or smallest value, which booleans, no numbers to TVM, have as well."""
    dtype = str(x.ty.dtype)
    wide = arithmetic.cast(x, "int8", importer) if dtype == "bool" else x
    operator = relax.op.max if largest else relax.op.min
    found = importer.block_builder.emit(operator(wide, axes or None, keep))
    return arithmetic.cast(found, dtype, importer)


def _place_of_extreme(largest: bool) -> Converter:
    """``argmax(x, dim=None, keepdim=False)``."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x, axis, keep = _arguments(node, importer, None, False)
        axis = node.kwargs.get("dim", axis)
        return _emit_place(x, axis, bool(node.kwargs.get("keepdim", keep)), largest, importer)

    return convert


def _emit_place(
    x: relax.Expr, axis: int | None, keep: bool, largest: bool, importer: Any
) -> relax.Var:
    """The first place of the largest or smallest value.

    TVM's begins with the place -1 and the least value of the dtype: where nothing is more, as of
    zeros in unsigned integers, it stays there. The first place is right then.
    """
    operator = relax.op.argmax if largest else relax.op.argmin
    dtype = str(x.ty.dtype)
    wide = arithmetic.cast(x, "int8", importer) if dtype == "bool" else x
    place = importer.block_builder.emit(operator(wide, axis, keep))
    zero = relax.const(0, str(place.ty.dtype))
    return importer.block_builder.emit(relax.op.maximum(place, zero))


def _min_max(largest: bool) -> Converter:
    """``max(x, dim, keepdim=False)``: the values and their indices.

    TVM's converter emits ``topk``, which the minimal runtime of boards lacks.
    """

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x, axis, keep = _arguments(node, importer, None, False)
        both = [
            _emit_extreme(x, [axis], bool(keep), largest, importer),
            _emit_place(x, axis, bool(keep), largest, importer),
        ]
        return importer.block_builder.emit(relax.Tuple(both))

    return convert


def _cumulative(operator: Callable[..., relax.Expr]) -> Converter:
    """``cumsum(x, dim, dtype=None)``: of integers in 64 bits."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x, axis = _arguments(node, importer)[:2]
        wide = arithmetic.cast(x, arithmetic.dtype_of(node.meta["val"].dtype), importer)
        return importer.block_builder.emit(operator(wide, int(axis)))

    return convert


def _avg_pool(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``avg_pool2d`` with ``divisor_override``: sums of windows, divided by a number."""
    given: list[Any] = list(node.args[1:])
    defaults: list[Any] = [None, [], 0, False, True, None]
    kernel, stride, padding, _, _, divisor = [*given, *defaults[len(given) :]]
    if divisor is None:
        return importer._avg_pool2d(node)
    x = importer.env[node.args[0]]
    (kh, kw), (top, left) = _pair(kernel), _pair(padding)
    sh, sw = _pair(stride or kernel)
    height, width = (int(extent) for extent in list(x.ty.shape)[-2:])
    rows, columns = node.meta["val"].shape[-2:]
    # All that the last windows see, as far as that lies beyond the padding.
    bottom = max(0, (rows - 1) * sh + kh - height - top)
    right = max(0, (columns - 1) * sw + kw - width - left)
    rank = int(x.ty.ndim)
    widths = [0] * (2 * rank - 4) + [top, bottom, left, right]
    padded = importer.block_builder.emit(relax.op.nn.pad(x, widths))
    if rank == 3:
        padded = importer.block_builder.emit(relax.op.expand_dims(padded, 0))
    mean = relax.op.nn.avg_pool2d(padded, (kh, kw), (sh, sw), count_include_pad=True)
    mean = importer.block_builder.emit(mean)
    if rank == 3:
        mean = importer.block_builder.emit(relax.op.squeeze(mean, [0]))
    factor = relax.const(kh * kw / divisor, str(x.ty.dtype))
    return importer.block_builder.emit(relax.op.multiply(mean, factor))


def _pair(value: Any) -> tuple[int, int]:
    numbers = [value] if isinstance(value, int) else list(value)
    return int(numbers[0]), int(numbers[-1])


def _padding(mode: str) -> Converter:
    """``reflection_pad2d(x, [left, right, top, bottom])``: the last dimension is first."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x, padding = _arguments(node, importer)
        pairs = [padding[i : i + 2] for i in range(0, len(padding), 2)]
        inner = [int(extent) for pair in reversed(pairs) for extent in pair]
        widths = [0] * (2 * int(x.ty.ndim) - len(inner)) + inner
        return importer.block_builder.emit(relax.op.nn.pad(x, widths, mode))

    return convert


def _group_norm(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``native_group_norm(x, weight, bias, N, C, HxW, groups, eps)``, affine or not."""
    x, weight, bias, _, channels, _, groups, epsilon = _arguments(node, importer)
    scale, shift = (
        relax.const(np.full(int(channels), value, str(x.ty.dtype)))
        if given is None
        else importer.env[given]
        for given, value in ((weight, 1), (bias, 0))
    )
    axes = list(range(2, int(x.ty.ndim)))
    normal = relax.op.nn.group_norm(x, scale, shift, int(groups), 1, axes, float(epsilon))
    # The other results, mean and deviation, are only used in training.
    return importer.block_builder.emit(relax.Tuple([normal, normal, normal]))


def _arguments(node: torch.fx.Node, importer: Any, *defaults: Any) -> list[Any]:
    """The converted input, then the other arguments or their defaults."""
    given = list(node.args[1:])
    return [importer.env[node.args[0]], *given, *defaults[len(given) :]]


CONVERTERS: dict[str, Converter] = {
    **arithmetic.CONVERTERS,
    **indexing.CONVERTERS,
    **sampling.CONVERTERS,
    "amax.default": _extreme(largest=True),
    "amin.default": _extreme(largest=False),
    "argmax.default": _place_of_extreme(largest=True),
    "argmin.default": _place_of_extreme(largest=False),
    "avg_pool2d.default": _avg_pool,
    "cumprod.default": _cumulative(relax.op.cumprod),
    "cumsum.default": _cumulative(relax.op.cumsum),
    "max.dim": _min_max(largest=True),
    "min.dim": _min_max(largest=False),
    "native_group_norm.default": _group_norm,
    "prod.dim_int": _reduction(relax.op.prod),
    "reflection_pad1d.default": _padding("reflect"),
    "reflection_pad2d.default": _padding("reflect"),
    "replication_pad1d.default": _padding("replicate"),
    "replication_pad2d.default": _padding("replicate"),
}

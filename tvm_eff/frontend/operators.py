"""Converters of PyTorch operators that TVM's importer lacks or gets wrong, by ATen name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tvm import relax

from tvm_eff.frontend import (
    arithmetic,
    distances,
    elementwise,
    embedding_bag,
    half,
    indexing,
    pooling,
    products,
    quantized,
    sampling,
    scattering,
)
from tvm_eff.frontend.arithmetic import Converter
from tvm_eff.frontend.nodes import arguments_of, shape_of


def _product(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``prod(x, dim, keepdim=False, dtype=None)``: of integers in 64 bits."""
    given = arguments_of(node)
    axis = given.get("dim")
    x = arithmetic.cast(
        importer.env[node.args[0]], arithmetic.dtype_of(node.meta["val"].dtype), importer
    )
    axes = None if axis is None else [int(axis)]
    return importer.block_builder.emit(relax.op.prod(x, axes, bool(given.get("keepdim"))))


def _any(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``any(x, dim=None, keepdim=False)``: whether something is not 0, as NaN is not."""
    given = arguments_of(node)
    x = importer.env[node.args[0]]
    dtype = str(x.ty.dtype)
    if dtype != "bool":
        x = importer.block_builder.emit(arithmetic.differ(x, relax.const(0, dtype), dtype))
    axes = given.get("dim")
    axes = [axes] if isinstance(axes, int) else list(axes or [])
    found = _emit_extreme(x, axes, bool(given.get("keepdim")), True, importer)
    # Of bytes it is a byte.
    return arithmetic.cast(found, arithmetic.dtype_of(node.meta["val"].dtype), importer)


def _cat(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``cat(tensors, dim=0)``: in the dtype of the result; without those that hold nothing."""
    arguments: tuple[Any, ...] = node.args
    held = [each for each in arguments[0] if 0 not in shape_of(each)]
    tensors = held or [each for each in arguments[0] if shape_of(each) != [0]] or arguments[0][:1]
    dtype = arithmetic.dtype_of(node.meta["val"].dtype)
    parts = [arithmetic.cast(importer.env[each], dtype, importer) for each in tensors]
    return importer.block_builder.emit(relax.op.concat(parts, int(arguments_of(node)["dim"])))


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
    emit = importer.block_builder.emit
    place = emit(operator(wide, axis, keep))
    zero = relax.const(0, str(place.ty.dtype))
    place = emit(relax.op.maximum(place, zero))
    if not dtype.startswith("float"):
        return place
    # NaN is both the largest and the smallest value.
    unknown = emit(relax.op.astype(emit(relax.op.isnan(x)), "int8"))
    axes = None if axis is None else [axis]
    some = emit(relax.op.astype(emit(relax.op.max(unknown, axes, keep)), "bool"))
    first = emit(relax.op.maximum(emit(relax.op.argmax(unknown, axis, keep)), zero))
    return emit(relax.op.where(some, first, place))


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


def _parts(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``split_with_sizes(x, sizes, dim=0)``: some may be zero."""
    sizes: Any = node.args[1]
    if all(sizes):
        return importer._split(node)
    x, values = importer.env[node.args[0]], node.meta["val"]
    axis = int(node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0))  # type: ignore[arg-type]
    found, start = [], 0
    for size, value in zip(sizes, values, strict=True):
        # No library can hold a constant without values.
        part = (
            relax.op.strided_slice(x, [axis], [start], [start + size], [1])
            if size
            else relax.op.zeros(tuple(map(int, value.shape)), str(x.ty.dtype))
        )
        found.append(importer.block_builder.emit(part))
        start += size
    return importer.block_builder.emit(relax.Tuple(found))


def _arguments(node: torch.fx.Node, importer: Any, *defaults: Any) -> list[Any]:
    """The converted input, then the other arguments or their defaults."""
    given = list(node.args[1:])
    return [importer.env[node.args[0]], *given, *defaults[len(given) :]]


CONVERTERS: dict[str, Converter] = {
    **arithmetic.CONVERTERS,
    **distances.CONVERTERS,
    **elementwise.CONVERTERS,
    **embedding_bag.CONVERTERS,
    **half.CONVERTERS,
    **indexing.CONVERTERS,
    **pooling.CONVERTERS,
    **products.CONVERTERS,
    **quantized.CONVERTERS,
    **sampling.CONVERTERS,
    **scattering.CONVERTERS,
    "any.default": _any,
    "any.dim": _any,
    "any.dims": _any,
    "amax.default": _extreme(largest=True),
    "amin.default": _extreme(largest=False),
    "argmax.default": _place_of_extreme(largest=True),
    "argmin.default": _place_of_extreme(largest=False),
    "cat.default": _cat,
    "cumprod.default": _cumulative(relax.op.cumprod),
    "cumsum.default": _cumulative(relax.op.cumsum),
    "max.dim": _min_max(largest=True),
    "min.dim": _min_max(largest=False),
    "native_group_norm.default": _group_norm,
    "prod.default": _product,
    "prod.dim_int": _product,
    "reflection_pad1d.default": _padding("reflect"),
    "reflection_pad2d.default": _padding("reflect"),
    "replication_pad1d.default": _padding("replicate"),
    "replication_pad2d.default": _padding("replicate"),
    "split_with_sizes.default": _parts,
}

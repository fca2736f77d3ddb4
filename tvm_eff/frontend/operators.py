"""Converters of PyTorch operators that TVM's importer lacks or gets wrong, by ATen name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tvm import relax

Converter = Callable[[torch.fx.Node, Any], relax.Var]


def _reduction(operator: Callable[..., relax.Expr]) -> Converter:
    """``amax(x, dim=[], keepdim=False)``: over one dimension, several, or all by default."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x, given, keep = _arguments(node, importer, [], False)
        axes = [given] if isinstance(given, int) else list(given)
        return importer.block_builder.emit(operator(x, axes or None, bool(keep)))

    return convert


def _min_max(value: Callable[..., relax.Expr], index: Callable[..., relax.Expr]) -> Converter:
    """``max(x, dim, keepdim=False)``: the values and their indices.

    TVM's converter emits ``topk``, which the minimal runtime of boards lacks.
    """

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x, axis, keep = _arguments(node, importer, None, False)
        both = relax.Tuple([value(x, axis, bool(keep)), index(x, axis, bool(keep))])
        return importer.block_builder.emit(both)

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


def _nearest(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``upsample_nearest2d``, which rounds down; TVM's converter rounds half pixels."""
    x, *_ = _arguments(node, importer)
    size = tuple(int(extent) for extent in node.meta["val"].shape[2:])
    return importer.block_builder.emit(
        relax.op.image.resize2d(
            x,
            size,
            layout="NCHW",
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        )
    )


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
    "amax.default": _reduction(relax.op.max),
    "amin.default": _reduction(relax.op.min),
    "max.dim": _min_max(relax.op.max, relax.op.argmax),
    "min.dim": _min_max(relax.op.min, relax.op.argmin),
    "native_group_norm.default": _group_norm,
    "prod.dim_int": _reduction(relax.op.prod),
    "reflection_pad1d.default": _padding("reflect"),
    "reflection_pad2d.default": _padding("reflect"),
    "replication_pad1d.default": _padding("replicate"),
    "replication_pad2d.default": _padding("replicate"),
    "upsample_nearest2d.vec": _nearest,
}

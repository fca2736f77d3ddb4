"""Products of matrices in the dtype that they have, and convolutions that TVM's importer lacks.

TVM's importer computes all products of matrices in float32, those of integers too.
"""

from __future__ import annotations

from typing import Any

import torch
from tvm import relax

from tvm_eff.frontend.arithmetic import Converter, cast, dtype_of, number_as
from tvm_eff.frontend.nodes import along_each, arguments_of, shape_of


def _product(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``mm(x, y)`` and ``bmm(x, y)``."""
    x, y = (importer.env[each] for each in node.args[:2])
    return importer.block_builder.emit(_matmul(x, y, dtype_of(node.meta["val"].dtype)))


def _matmul(x: relax.Expr, y: relax.Expr, dtype: str) -> relax.Expr:
    return relax.op.matmul(x, y, out_dtype=dtype)


def _sum_with_product(usual: str) -> Converter:
    """``addmm(x, y, z, beta=1, alpha=1)`` and ``baddbmm``: TVM's for floats."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        dtype = dtype_of(node.meta["val"].dtype)
        given = arguments_of(node)
        if dtype.startswith("float") and given["alpha"] and given["beta"]:
            return getattr(importer, usual)(node)
        emit = importer.block_builder.emit
        added, x, y = (cast(importer.env[each], dtype, importer) for each in node.args[:3])
        product = emit(_matmul(x, y, dtype))
        parts = [(product, given["alpha"]), (added, given["beta"])]
        scaled = [
            each
            if factor == 1
            else emit(relax.op.multiply(each, relax.const(number_as(factor, dtype), dtype)))
            for each, factor in parts
            if factor != 0
        ]
        if not scaled:
            return emit(relax.op.broadcast_to(relax.const(0, dtype), shape_of(node)))
        if len(scaled) == 2:
            return emit(relax.op.add(*scaled))
        return emit(relax.op.broadcast_to(scaled[0], shape_of(node)))

    return convert


_TRANSPOSED = {
    1: relax.op.nn.conv1d_transpose,
    2: relax.op.nn.conv2d_transpose,
    3: relax.op.nn.conv3d_transpose,
}


def _convolution(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``convolution(...)``: TVM's, but for some transposed ones.

    Its importer lacks those of three dimensions, and its operators an output padding of a stride
    or more, which PyTorch takes beside a dilation.
    """
    given = arguments_of(node)
    x, weight = importer.env[node.args[0]], importer.env[node.args[1]]
    rank = int(x.ty.ndim) - 2
    stride, padding, outer, dilation = (
        along_each(given[name], rank)
        for name in ("stride", "padding", "output_padding", "dilation")
    )
    far = any(more >= step for more, step in zip(outer, stride, strict=True))
    if not given["transposed"] or (rank != 3 and not far):
        return importer._convolution(node)
    emit = importer.block_builder.emit
    # Output padding takes less off the end; beyond that there is nothing but the bias.
    behind = [max(0, less - more) for less, more in zip(padding, outer, strict=True)]
    empty = [max(0, more - less) for less, more in zip(padding, outer, strict=True)]
    result = emit(
        _TRANSPOSED[rank](
            x,
            weight,
            strides=stride,
            padding=[*padding, *behind] if far else padding,
            output_padding=[0] * rank if far else outer,
            dilation=dilation,
            groups=int(given["groups"]),
        )
    )
    if far and any(empty):
        result = emit(relax.op.nn.pad(result, [0] * 4 + [w for each in empty for w in (0, each)]))
    if given["bias"] is None:
        return result
    bias = emit(relax.op.reshape(importer.env[given["bias"]], [1, -1, *[1] * rank]))
    return emit(relax.op.add(result, bias))


CONVERTERS: dict[str, Converter] = {
    "addmm.default": _sum_with_product("_addmm"),
    "baddbmm.default": _sum_with_product("_baddbmm"),
    "bmm.default": _product,
    "convolution.default": _convolution,
    "mm.default": _product,
}
"""By ATen name."""

"""Sums of many values as sums of sums of blocks, and what is made of them.

A sum that values are added to one after the other loses more with each of them: where they are
alike, up to a quarter of a rounding for each. Sums of blocks lose as little as each of their
levels (Higham, SIAM J. Sci. Comput. 14(4), 1993); PyTorch sums in such a way too
(ATen/native/cpu/SumKernel.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import relax, te, tirx, topi

Legalize = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]

_LONGEST = 256
"""The most values that are added one after the other: maps of 16 x 16."""

_LONG_PRODUCT = 1024
"""The most products that are added one after the other."""

_FEW_COLUMNS = 8
"""The most columns of what is no layer's product but a sum with weights."""


def legalizations() -> dict[str, Legalize]:
    """Return the operators and what legalises them, where their sums are long."""
    return {
        "relax.sum": _where_long("relax.sum", _sum),
        "relax.mean": _where_long("relax.mean", _mean),
        "relax.variance": _where_long("relax.variance", _variance),
        "relax.matmul": _products,
        "relax.nn.softmax": _where_long("relax.nn.softmax", _softmax),
        "relax.nn.log_softmax": _where_long("relax.nn.log_softmax", _log_softmax),
    }


def _where_long(name: str, long: Callable[..., relax.Expr]) -> Legalize:
    usual = tvm.ir.Op.get(name).get_attr("FLegalize")

    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        x = call.args[0]
        axes = _axes(call.attrs.axis, int(x.ty.ndim))
        count = math.prod(int(x.ty.shape[axis]) for axis in axes)
        if count <= _LONGEST or not str(x.ty.dtype).startswith("float"):
            return usual(builder, call)
        return long(builder, call, axes)

    return legalize


def _axes(given: Any, rank: int) -> list[int]:
    if given is None:
        return list(range(rank))
    axes = [given] if isinstance(given, int) else given
    return sorted({int(axis) % rank for axis in axes})


def _sum(builder: relax.BlockBuilder, call: relax.Call, axes: Sequence[int]) -> relax.Expr:
    x = _first_levels(builder, call, axes)
    return builder.call_te(topi.sum, x, list(axes), bool(call.attrs.keepdims))


def _mean(builder: relax.BlockBuilder, call: relax.Call, axes: Sequence[int]) -> relax.Expr:
    shape = call.args[0].ty.shape
    count = math.prod(int(shape[axis]) for axis in axes)

    def compute(x: te.Tensor) -> te.Tensor:
        total = topi.sum(x, list(axes), bool(call.attrs.keepdims))
        return topi.divide(total, tirx.const(count, x.dtype))

    x = _first_levels(builder, call, axes)
    return builder.call_te(compute, x, primfunc_name_hint="mean")


def _first_levels(builder: relax.BlockBuilder, call: relax.Call, axes: Sequence[int]) -> relax.Expr:
    """All levels but the last one, each of them a kernel: one that has a single sum is tuned."""
    x = call.args[0]
    while (first := _first_level(x.ty.shape, axes)) is not None:
        x = builder.emit(builder.call_te(_sums_of_blocks, x, *first, primfunc_name_hint="sums"))
    return x


def _variance(builder: relax.BlockBuilder, call: relax.Call, axes: Sequence[int]) -> relax.Expr:
    shape = call.args[0].ty.shape
    count = math.prod(int(shape[axis]) for axis in axes)

    def compute(x: te.Tensor) -> te.Tensor:
        number = tirx.const(count, x.dtype)
        centred = topi.subtract(x, topi.divide(blocked_sum(x, axes), number))
        squares = topi.multiply(centred, centred)
        return topi.divide(blocked_sum(squares, axes, bool(call.attrs.keepdims)), number)

    return builder.call_te(compute, call.args[0], primfunc_name_hint="variance")


def _softmax(builder: relax.BlockBuilder, call: relax.Call, axes: Sequence[int]) -> relax.Expr:
    def compute(x: te.Tensor) -> te.Tensor:
        exponents = topi.exp(topi.subtract(x, topi.max(x, axes, True)))
        return topi.divide(exponents, blocked_sum(exponents, axes))

    return builder.call_te(compute, call.args[0], primfunc_name_hint="softmax")


def _log_softmax(builder: relax.BlockBuilder, call: relax.Call, axes: Sequence[int]) -> relax.Expr:
    def compute(x: te.Tensor) -> te.Tensor:
        below = topi.subtract(x, topi.max(x, axes, True))
        return topi.subtract(below, topi.log(blocked_sum(topi.exp(below), axes)))

    return builder.call_te(compute, call.args[0], primfunc_name_hint="log_softmax")


def _products(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Sums of products for a few columns, such as the expected place of a heatmap's peak.

    What has more columns is the kernel of a layer, whose terms have either sign.
    """
    x, y = call.args
    usual = tvm.ir.Op.get("relax.matmul").get_attr("FLegalize")
    ranks = {int(x.ty.ndim), int(y.ty.ndim)}
    if ranks != {2} or not str(call.ty.dtype).startswith("float"):
        return usual(builder, call)
    depth, columns = map(int, y.ty.shape)
    if columns > _FEW_COLUMNS or depth <= _LONG_PRODUCT:
        return usual(builder, call)
    size, dtype = _block(depth), str(call.ty.dtype)
    count = -(-depth // size)

    def compute(left: te.Tensor, right: te.Tensor) -> te.Tensor:
        step = te.reduce_axis((0, size), name="k")

        def element(row: Any, block: Any, column: Any) -> Any:
            at = block * size + step
            product = left(row, at).astype(dtype) * right(at, column).astype(dtype)
            return te.sum(_inside(product, at, depth, size), axis=step)

        return te.compute((left.shape[0], count, columns), element, name="products")

    products = builder.emit(builder.call_te(compute, x, y, primfunc_name_hint="products"))
    return builder.call_te(blocked_sum, products, [1], False, primfunc_name_hint="sum")


def blocked_sum(x: te.Tensor, axes: Sequence[int], keep: bool = True) -> te.Tensor:
    """Return the sum along axes, which are kept with an extent of 1 if `keep` says so."""
    while (first := _first_level(x.shape, axes)) is not None:
        x = _sums_of_blocks(x, *first)
    return topi.sum(x, list(axes), keep)


def _first_level(shape: Sequence[Any], axes: Sequence[int]) -> tuple[int, int] | None:
    """The axis that is summed along first, and in blocks of how many; None if no sum is long.

    An axis that is not long itself is one block.
    """
    extents = {axis: int(shape[axis]) for axis in axes}
    if math.prod(extents.values()) <= _LONGEST:
        return None
    axis = max(extents, key=lambda each: extents[each])
    return axis, _block(extents[axis])


def _block(extent: int) -> int:
    if extent <= _LONGEST:
        return extent
    root = min(_LONGEST, math.isqrt(extent))
    # Of a block that is not whole, the values that are missing would be asked for each time.
    whole = [size for size in range(root, root // 4, -1) if extent % size == 0]
    return whole[0] if whole else root


def _sums_of_blocks(x: te.Tensor, axis: int, size: int) -> te.Tensor:
    extent = int(x.shape[axis])
    count = -(-extent // size)
    step = te.reduce_axis((0, size), name="k")

    def element(*indices: Any) -> Any:
        at = indices[axis] * size + step
        value = x(*indices[:axis], at, *indices[axis + 1 :])
        return te.sum(_inside(value, at, extent, size), axis=step)

    shape = [count if d == axis else each for d, each in enumerate(x.shape)]
    return te.compute(shape, element, name="sums")


def _inside(value: Any, at: Any, extent: int, size: int) -> Any:
    """A value of the last block, or 0 behind the last value."""
    if extent % size == 0:
        return value
    return tirx.if_then_else(at < extent, value, tirx.const(0, value.ty.dtype))

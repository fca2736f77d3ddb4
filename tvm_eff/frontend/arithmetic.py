"""Operators on two operands, and limits, with PyTorch's dtypes and all of their arguments.

TVM's importer gives a number the dtype of the tensor beside it, so that ``bytes >= 127.5`` becomes
``bytes >= 127`` and half of an integer an integer; and it does not look at ``alpha``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tvm import relax

Converter = Callable[[torch.fx.Node, Any], relax.Var]
Operator = Callable[..., relax.Expr]


def dtype_of(value: torch.dtype) -> str:
    """Return PyTorch's dtype by the name that Relax has for it."""
    return str(value).removeprefix("torch.")


def least_of(dtype: str) -> float:
    """Return what no value of a dtype is less than."""
    return -math.inf if dtype.startswith("float") else int(np.iinfo(dtype).min)


def most_of(dtype: str) -> float:
    """Return what no value of a dtype is more than."""
    return math.inf if dtype.startswith("float") else int(np.iinfo(dtype).max)


def cast(expression: relax.Expr, dtype: str, importer: Any) -> relax.Expr:
    """Return an expression as another dtype, if it is not of it."""
    if str(expression.ty.dtype) == dtype:
        return expression
    return importer.block_builder.emit(relax.op.astype(expression, dtype))


def operand_of(argument: Any, dtype: str, importer: Any) -> relax.Expr:
    """Return an argument, a tensor or a number, as an expression of a dtype."""
    if isinstance(argument, torch.fx.Node):
        return cast(importer.env[argument], dtype, importer)
    return relax.const(number_as(argument, dtype), dtype)


def number_as(value: Any, dtype: str) -> Any:
    """Return a number as PyTorch takes it beside a tensor of a dtype."""
    if dtype == "bool":
        return bool(value)
    if not dtype.startswith(("int", "uint")):
        return float(value)
    # PyTorch lets a number that is too large for the dtype wrap around.
    return int(np.asarray(int(value)).astype(dtype))


def _value(argument: Any) -> Any:
    """What PyTorch knows of an argument: a tensor without data, or a number."""
    return argument.meta["val"] if isinstance(argument, torch.fx.Node) else argument


def propagating(operator: Operator) -> Operator:
    """Return ``maximum`` or ``minimum`` that is NaN where one of two floats is, as PyTorch's."""

    def chosen(left: relax.Expr, right: relax.Expr) -> relax.Expr:
        found = operator(left, right)
        for each in (right, left):
            if str(each.ty.dtype).startswith("float"):
                found = relax.op.where(relax.op.isnan(each), each, found)
        return found

    return chosen


def _arithmetic(operator: Operator, of_booleans: Operator | None = None) -> Converter:
    """``add(x, y, alpha=1)`` and its like: in the dtype of the result."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x, y = node.args[:2]
        alpha = node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)
        dtype = dtype_of(node.meta["val"].dtype)
        left, right = operand_of(x, dtype, importer), operand_of(y, dtype, importer)
        if alpha != 1:
            factor = relax.const(number_as(alpha, dtype), dtype)
            right = importer.block_builder.emit(relax.op.multiply(right, factor))
        chosen = of_booleans if dtype == "bool" and of_booleans is not None else operator
        return importer.block_builder.emit(chosen(left, right))

    return convert


def _comparison(operator: Operator) -> Converter:
    """``ge(x, y)`` and its like: in the dtype that PyTorch promotes both operands to."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        _, left, right = _promoted(node, importer)
        return importer.block_builder.emit(operator(left, right))

    return convert


def _promoted(node: torch.fx.Node, importer: Any) -> tuple[str, relax.Expr, relax.Expr]:
    """The dtype that both operands of a node are compared in, and they in it."""
    x, y = node.args[:2]
    dtype = dtype_of(torch.result_type(_value(x), _value(y)))
    if dtype == "bool":  # False is less than True
        dtype = "int8"
    return dtype, operand_of(x, dtype, importer), operand_of(y, dtype, importer)


def differ(x: relax.Expr, y: relax.Expr, dtype: str) -> relax.Expr:
    """Where two tensors of a dtype are not equal; NaN is neither equal nor unequal to TVM."""
    found = relax.op.not_equal(x, y)
    if not dtype.startswith("float"):
        return found
    unknown = relax.op.logical_or(relax.op.isnan(x), relax.op.isnan(y))
    return relax.op.logical_or(found, unknown)


def _not_equal(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``ne(x, y)``."""
    dtype, left, right = _promoted(node, importer)
    return importer.block_builder.emit(differ(left, right, dtype))


def _limits(least: int | None, most: int | None) -> Converter:
    """``clamp(x, min, max)``, ``clamp_min(x, min)`` and ``clamp_max(x, max)``.

    Parameters
    ----------
    least, most
        At which place the limits stand; None where there is none.
    """

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        def limit(place: int | None, name: str) -> Any:
            if place is None:
                return None
            return node.args[place] if len(node.args) > place else node.kwargs.get(name)

        low, high = limit(least, "min"), limit(most, "max")
        dtype = dtype_of(node.meta["val"].dtype)
        x = cast(importer.env[node.args[0]], dtype, importer)
        numbers = not any(isinstance(each, torch.fx.Node) for each in (low, high))
        if numbers and dtype.startswith("float"):
            ends = [-math.inf if low is None else low, math.inf if high is None else high]
            # Of limits in the wrong order the upper one is that of all.
            ends[0] = min(ends)
            return importer.block_builder.emit(relax.op.clip(x, *map(float, ends)))
        for bound, operator in ((low, relax.op.maximum), (high, relax.op.minimum)):
            if bound is not None:
                limited = propagating(operator)(x, operand_of(bound, dtype, importer))
                x = importer.block_builder.emit(limited)
        return x

    return convert


def _division(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``div(x, y, rounding_mode=None)``: exact, to the next integer below, or towards zero."""
    dtype = dtype_of(node.meta["val"].dtype)
    left, right = (operand_of(each, dtype, importer) for each in node.args[:2])
    return importer.block_builder.emit(
        _divided(left, right, node.kwargs.get("rounding_mode"), dtype)
    )


def _floor_divide(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``floor_divide(x, y)``."""
    dtype = dtype_of(node.meta["val"].dtype)
    left, right = (operand_of(each, dtype, importer) for each in node.args[:2])
    return importer.block_builder.emit(_divided(left, right, "floor", dtype))


def _divided(left: relax.Expr, right: relax.Expr, rounding: Any, dtype: str) -> relax.Expr:
    if dtype.startswith("float"):
        quotient = relax.op.divide(left, right)
        rounded = {"floor": relax.op.floor, "trunc": relax.op.trunc}
        return rounded[rounding](quotient) if rounding is not None else quotient
    if rounding == "floor" or dtype.startswith("uint"):
        return relax.op.floor_divide(left, right)
    # One more than the next integer below, where both are not of one sign. (The least integer
    # has no absolute value.)
    zero, quotient = relax.const(0, dtype), relax.op.floor_divide(left, right)
    inexact = relax.op.not_equal(relax.op.multiply(quotient, right), left)
    opposed = relax.op.logical_xor(relax.op.less(left, zero), relax.op.less(right, zero))
    above = relax.op.astype(relax.op.logical_and(inexact, opposed), dtype)
    return relax.op.add(quotient, above)


_ARITHMETIC: dict[str, Converter] = {
    "add": _arithmetic(relax.op.add, relax.op.logical_or),
    "sub": _arithmetic(relax.op.subtract),
    "mul": _arithmetic(relax.op.multiply, relax.op.logical_and),
    "div": _arithmetic(relax.op.divide),
    "eq": _comparison(relax.op.equal),
    "ne": _not_equal,
    "lt": _comparison(relax.op.less),
    "le": _comparison(relax.op.less_equal),
    "gt": _comparison(relax.op.greater),
    "ge": _comparison(relax.op.greater_equal),
    "fmod": _arithmetic(relax.op.mod),
    "remainder": _arithmetic(relax.op.floor_mod),
}

CONVERTERS: dict[str, Converter] = {
    **{
        f"{name}.{overload}": converter
        for name, converter in _ARITHMETIC.items()
        for overload in ("Tensor", "Scalar")
    },
    "clamp.default": _limits(1, 2),
    "clamp.Tensor": _limits(1, 2),
    "clamp_max.default": _limits(None, 1),
    "clamp_max.Tensor": _limits(None, 1),
    "clamp_min.default": _limits(1, None),
    "clamp_min.Tensor": _limits(1, None),
    "div.Scalar_mode": _division,
    "div.Tensor_mode": _division,
    "floor_divide.Scalar": _floor_divide,
    "floor_divide.default": _floor_divide,
    "maximum.default": _arithmetic(propagating(relax.op.maximum), relax.op.logical_or),
    "minimum.default": _arithmetic(propagating(relax.op.minimum), relax.op.logical_and),
}
"""By ATen name."""

"""Operators on each element that TVM's importer takes for floats alone, or not at all.

PyTorch computes the sine of integers in floats and their powers in integers, and a shift by more
bits than there are is no undefined value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tvm import relax

from tvm_eff.frontend.arithmetic import Converter, cast, dtype_of, operand_of
from tvm_eff.frontend.nodes import arguments_of

_SMALL = 0.05
"""Below, a polynomial of a few terms is exact to a rounding, where a difference is not."""

_EXPONENT_BITS = 7
"""Of integers' exponents; powers with larger ones are beyond 64 bits but for 0, 1 and -1."""


def _floating(operator: Callable[[relax.Expr], relax.Expr]) -> Converter:
    """``sin(x)`` and its like: in the dtype of the result, which is a float's for integers."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        x = cast(importer.env[node.args[0]], dtype_of(node.meta["val"].dtype), importer)
        return importer.block_builder.emit(operator(x))

    return convert


def _constant(value: float, like: relax.Expr) -> relax.Constant:
    return relax.const(value, str(like.ty.dtype))


def _times(factor: float, x: relax.Expr) -> relax.Expr:
    return relax.op.multiply(x, _constant(factor, x))


def _polynomial(x: relax.Expr, terms: tuple[float, ...], like: relax.Expr) -> relax.Expr:
    """``terms[0] + terms[1] * x + ...``, in the dtype of `like`."""
    value = _constant(terms[-1], like)
    for term in reversed(terms[:-1]):
        value = relax.op.add(relax.op.multiply(value, x), _constant(term, like))
    return value


def _with_small(
    far: Callable[[relax.Expr], relax.Expr], terms: tuple[float, ...]
) -> Callable[[relax.Expr], relax.Expr]:
    """Compute ``x * (terms[0] + terms[1] * x + ...)`` where `x` is small."""

    def operator(x: relax.Expr) -> relax.Expr:
        near = relax.op.multiply(_polynomial(x, terms, x), x)
        small = relax.op.less(relax.op.abs(x), _constant(_SMALL, x))
        return relax.op.where(small, near, far(x))

    return operator


_expm1 = _with_small(
    lambda x: relax.op.subtract(relax.op.exp(x), _constant(1, x)), (1, 1 / 2, 1 / 6, 1 / 24)
)
_log1p = _with_small(
    lambda x: relax.op.log(relax.op.add(x, _constant(1, x))), (1, -1 / 2, 1 / 3, -1 / 4, 1 / 5)
)


def _odd(
    far: Callable[[relax.Expr], relax.Expr], limit: float, terms: tuple[float, ...]
) -> Callable[[relax.Expr], relax.Expr]:
    """Compute ``x + x**3 * (terms[0] + terms[1] * x**2 + ...)`` where ``abs(x) < limit``."""

    def operator(x: relax.Expr) -> relax.Expr:
        square = relax.op.multiply(x, x)
        cubed = relax.op.multiply(relax.op.multiply(x, square), _polynomial(square, terms, x))
        small = relax.op.less(relax.op.abs(x), _constant(limit, x))
        return relax.op.where(small, relax.op.add(x, cubed), far(x))

    return operator


def _exponentials(combine: Callable[..., relax.Expr]) -> Callable[[relax.Expr], relax.Expr]:
    """``sinh(x)``, ``cosh(x)``: half of the difference, or the sum, of two exponentials.

    Each is the square of a root, so that it does not overflow where half of it does not.
    """

    def operator(x: relax.Expr) -> relax.Expr:
        half = _constant(0.5, x)
        root = relax.op.exp(relax.op.multiply(half, x))
        inverse = relax.op.divide(_constant(1, x), root)
        return combine(*(relax.op.multiply(relax.op.multiply(half, r), r) for r in (root, inverse)))

    return operator


# The polynomials of tanhf, sinhf and atanhf in the Cephes library (Moshier, 1992). Of TVM's own
# tanh and atanh, which subtract exponentials and add to 1, nothing is left where x is small. Its
# sinh and cosh cannot be vectorized.
_tanh = _odd(
    relax.op.tanh,
    0.625,
    (-3.33332819422e-1, 1.33314422036e-1, -5.37397155531e-2, 2.06390887954e-2, -5.70498872745e-3),
)
_sinh = _odd(
    _exponentials(relax.op.subtract),
    1.0,
    (1.66667160211e-1, 8.33028376239e-3, 2.03721912945e-4),
)
_atanh = _odd(
    relax.op.atanh,
    0.5,
    (3.33337300303e-1, 1.99782164500e-1, 1.46691431730e-1, 8.24370301058e-2, 1.81740078349e-1),
)


def _elu(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``elu(x, alpha=1, scale=1, input_scale=1)``: SELU has a scale, CELU an input scale."""
    emit = importer.block_builder.emit
    alpha, scale, input_scale = list(arguments_of(node).values())[1:]
    x = importer.env[node.args[0]]
    above = x if scale == 1 else _times(scale, x)
    below = emit(_expm1(x if input_scale == 1 else emit(_times(input_scale, x))))
    positive = relax.op.greater(x, _constant(0, x))
    return emit(relax.op.where(positive, above, _times(alpha * scale, below)))


def _exp2(x: relax.Expr) -> relax.Expr:
    return relax.op.power(_constant(2, x), x)


def _of_two(operator: Callable[..., relax.Expr]) -> Converter:
    """``atan2(x, y)``: both in the dtype of the result."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        dtype = dtype_of(node.meta["val"].dtype)
        left, right = (operand_of(each, dtype, importer) for each in node.args[:2])
        return importer.block_builder.emit(operator(left, right))

    return convert


def _where(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``where(condition, x, y)``: both in the dtype of the result."""
    dtype = dtype_of(node.meta["val"].dtype)
    condition = cast(importer.env[node.args[0]], "bool", importer)
    left, right = (operand_of(each, dtype, importer) for each in node.args[1:])
    return importer.block_builder.emit(relax.op.where(condition, left, right))


def _power(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``pow(x, y)``; of integers, by squaring."""
    dtype = dtype_of(node.meta["val"].dtype)
    x: Any
    y: Any
    x, y = node.args[:2]
    base, exponent = operand_of(x, dtype, importer), operand_of(y, dtype, importer)
    if dtype.startswith("float"):
        return importer.block_builder.emit(relax.op.power(base, exponent))
    if not isinstance(y, torch.fx.Node):
        return _constant_power(base, int(y), dtype, importer)
    return _integer_power(base, exponent, dtype, importer)


def _constant_power(base: relax.Expr, exponent: int, dtype: str, importer: Any) -> relax.Var:
    emit = importer.block_builder.emit
    result = emit(relax.op.full(base.ty.shape, relax.const(1, dtype), dtype))
    while exponent:
        if exponent % 2:
            result = emit(relax.op.multiply(result, base))
        exponent //= 2
        if exponent:
            base = emit(relax.op.multiply(base, base))
    return result


def _integer_power(base: relax.Expr, exponent: relax.Expr, dtype: str, importer: Any) -> relax.Var:
    """Of a negative exponent 0, but for 1 and -1, as PyTorch has it."""
    emit = importer.block_builder.emit

    def number(value: int) -> relax.Constant:
        return relax.const(value, dtype)

    least, left = exponent, base
    if not dtype.startswith("uint"):
        least = emit(relax.op.abs(exponent))
    result = number(1)
    for bit in range(_EXPONENT_BITS):
        if bit:
            left = emit(relax.op.multiply(left, left))
            least = emit(relax.op.right_shift(least, number(1)))
        odd = relax.op.equal(relax.op.bitwise_and(least, number(1)), number(1))
        factor = relax.op.where(odd, left, number(1))
        result = emit(relax.op.multiply(result, factor))
    if dtype.startswith("uint"):
        return result
    is_unit = relax.op.equal(relax.op.abs(base), number(1))
    whole = relax.op.greater_equal(exponent, number(0))
    return emit(relax.op.where(relax.op.logical_or(whole, is_unit), result, number(0)))


def _shift(left: bool) -> Converter:
    """``bitwise_left_shift(x, y)``: by more bits than there are, or by less than none, 0 or -1."""

    def convert(node: torch.fx.Node, importer: Any) -> relax.Var:
        dtype = dtype_of(node.meta["val"].dtype)
        emit = importer.block_builder.emit
        x, y = (operand_of(each, dtype, importer) for each in node.args[:2])
        bits = torch.iinfo(node.meta["val"].dtype).bits
        far = relax.op.greater_equal(y, relax.const(bits, dtype))
        if not dtype.startswith("uint"):
            far = relax.op.logical_or(far, relax.op.less(y, relax.const(0, dtype)))
        most = relax.const(bits - 1, dtype)
        by = emit(relax.op.where(far, most, y))
        if not left and not dtype.startswith("uint"):
            return emit(relax.op.right_shift(x, by))
        shifted = (relax.op.left_shift if left else relax.op.right_shift)(x, by)
        return emit(relax.op.where(far, relax.const(0, dtype), shifted))

    return convert


_FLOATING: dict[str, Callable[[relax.Expr], relax.Expr]] = {
    "acos": relax.op.acos,
    "acosh": relax.op.acosh,
    "asin": relax.op.asin,
    "asinh": relax.op.asinh,
    "atan": relax.op.atan,
    "atanh": _atanh,
    "cos": relax.op.cos,
    "cosh": _exponentials(relax.op.add),
    "erf": relax.op.erf,
    "exp": relax.op.exp,
    "exp2": _exp2,
    "expm1": _expm1,
    "log": relax.op.log,
    "log10": lambda x: relax.op.divide(relax.op.log(x), _constant(2.302585092994046, x)),
    "log1p": _log1p,
    "log2": lambda x: relax.op.divide(relax.op.log(x), _constant(0.6931471805599453, x)),
    "reciprocal": lambda x: relax.op.divide(_constant(1, x), x),
    "rsqrt": relax.op.rsqrt,
    "sigmoid": relax.op.sigmoid,
    "sin": relax.op.sin,
    "sinh": _sinh,
    "sqrt": relax.op.sqrt,
    "tan": relax.op.tan,
    "tanh": _tanh,
}

CONVERTERS: dict[str, Converter] = {
    **{f"{name}.default": _floating(operator) for name, operator in _FLOATING.items()},
    **{
        f"bitwise_{side}_shift.{kind}": _shift(side == "left")
        for side in ("left", "right")
        for kind in ("Tensor", "Tensor_Scalar", "Scalar_Tensor")
    },
    **{
        f"__{side[0]}shift__.{kind}": _shift(side == "left")
        for side in ("left", "right")
        for kind in ("Tensor", "Scalar")
    },
    "atan2.default": _of_two(relax.op.atan2),
    "elu.default": _elu,
    "pow.Scalar": _power,
    "pow.Tensor_Scalar": _power,
    "pow.Tensor_Tensor": _power,
    "where.self": _where,
}
"""By ATen name."""

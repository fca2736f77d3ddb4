"""Kernels of integers that pad or convert what they read, without a tensor of it.

FuseOps fuses nothing in front of a sum. A convolution of integers is padded with a zero point,
which is no zero and so is an operator of its own; an average converts integers to float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tvm
from tvm import relax, te, tirx, topi
from tvm.ir.expr import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_eff.passes.relax._calls import name_of

_BYTES = ("int8", "uint8")


@tvm.ir.transform.module_pass(opt_level=0, name="ReadIntegers")
def read_integers(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite the channels-last convolutions and averages of ``main`` that read integers."""
    reader = _Reader(mod)
    main = reader.visit_expr(mod["main"])
    rewritten = reader.builder_.get()
    rewritten["main"] = main
    return relax.transform.DeadCodeElimination()(rewritten)


@mutator
class _Reader(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if name_of(call) == "relax.nn.conv2d":
            return self._padded_convolution(call)
        if name_of(call) in ("relax.mean", "relax.nn.avg_pool2d"):
            return self._average(call)
        if name_of(call) == "relax.astype" and str(call.ty.dtype) in _BYTES:
            return self._rounded(call)
        return call

    def _padded_convolution(self, call: relax.Call) -> relax.Expr:
        padding = self._definition(call.args[0], "relax.nn.pad")
        layouts = (call.attrs.data_layout, call.attrs.kernel_layout)
        if padding is None or layouts != ("NHWC", "OHWI") or any(map(int, call.attrs.padding)):
            return call
        widths = [int(n) for n in padding.attrs.pad_width]
        if any(widths[:2] + widths[6:]) or padding.attrs.pad_mode != "constant":
            return call

        def convolution(data: te.Tensor, weight: te.Tensor) -> te.Tensor:
            return _convolution(data, weight, call, widths, int(padding.attrs.pad_value))

        return self.builder_.call_te(
            convolution, padding.args[0], call.args[1], primfunc_name_hint="conv2d"
        )

    def _average(self, call: relax.Call) -> relax.Expr:
        cast = self._definition(call.args[0], "relax.astype", (*_BYTES, "float16"))
        if cast is None:
            return call

        def average(data: te.Tensor) -> te.Tensor:
            wide = topi.cast(data, "float32")
            if name_of(call) == "relax.mean":
                axes = None if call.attrs.axis is None else [int(n) for n in call.attrs.axis]
                count = 1
                for axis in range(len(data.shape)) if axes is None else axes:
                    count *= int(data.shape[axis])
                return topi.divide(topi.sum(wide, axes, bool(call.attrs.keepdims)), float(count))
            return topi.nn.pool2d(
                wide,
                kernel=[int(n) for n in call.attrs.pool_size],
                stride=[int(n) for n in call.attrs.strides],
                dilation=[int(n) for n in call.attrs.dilation],
                padding=[int(n) for n in call.attrs.padding],
                pool_type="avg",
                ceil_mode=bool(call.attrs.ceil_mode),
                layout=str(call.attrs.layout),
                count_include_pad=bool(call.attrs.count_include_pad),
            )

        return self.builder_.call_te(average, cast.args[0], primfunc_name_hint="average")

    def _rounded(self, call: relax.Call) -> relax.Expr:
        """Numbers rounded, moved by the zero point, limited and stored as bytes."""
        limited = self._call_of(call.args[0], "relax.clip")
        if limited is None:
            return call
        moved = self._call_of(limited.args[0], "relax.add")
        before = limited if moved is None else moved
        rounded = self._call_of(before.args[0], "relax.round")
        zero = 0.0 if moved is None else _number(moved.args[1])
        least, most = (_number(each) for each in limited.args[1:])
        if rounded is None or str(rounded.ty.dtype) != "float32":
            return call
        if not all(each.is_integer() and abs(each) < 256 for each in (zero, least, most)):
            return call
        dtype = str(call.ty.dtype)

        def to_bytes(data: te.Tensor) -> te.Tensor:
            return _to_bytes(data, int(zero), int(least), int(most), dtype)

        return self.builder_.call_te(to_bytes, rounded.args[0], primfunc_name_hint="to_bytes")

    def _definition(
        self, expr: relax.Expr, name: str, dtypes: Sequence[str] = _BYTES
    ) -> relax.Call | None:
        """The call of an operator that defines a variable, if it reads one of some dtypes."""
        found = self._call_of(expr, name)
        return found if found is not None and str(found.args[0].ty.dtype) in dtypes else None

    def _call_of(self, expr: relax.Expr, name: str) -> relax.Call | None:
        """The call of an operator that defines a variable."""
        found = self.builder_.lookup_binding(expr) if isinstance(expr, relax.Var) else None
        return found if found is not None and name_of(found) == name else None


def _number(expr: relax.Expr) -> float:
    """The number that an expression is; NaN if it is another one."""
    if isinstance(expr, GenericConst):
        value = expr.value.numpy()
        return float(value.item()) if value.size == 1 else math.nan
    value = getattr(expr, "value", math.nan)
    return float(getattr(value, "value", value))


def _to_bytes(data: te.Tensor, zero: int, least: int, most: int, dtype: str) -> te.Tensor:
    """Numbers rounded half to even, plus `zero`, within limits.

    A limited number is no larger than 510, and 1.5 * 2^23 plus it is rounded to a whole one, whose
    last byte is that of the integer: neither a rounding nor a conversion is an instruction, and
    LLVM has vectors of all that is left. An even zero point is added at once: what is halfway
    between two numbers goes to the even one all the same.
    """
    odd = zero % 2

    def element(*index: tirx.Var) -> tirx.Expr:
        low, high = (tirx.const(float(each - zero), "float32") for each in (least, most))
        limited = tirx.max(tirx.min(data(*index), high), low)
        whole = limited + tirx.const(1.5 * 2**23 + (zero - odd), "float32")
        byte = tirx.reinterpret("int32", whole).astype(dtype)
        return byte + tirx.const(odd, dtype) if odd else byte

    return te.compute(data.shape, element, name="to_bytes")


def _convolution(
    data: te.Tensor, weight: te.Tensor, call: relax.Call, widths: list[int], value: int
) -> te.Tensor:
    """A convolution in channels-last, whose input is padded with `value`."""
    before, after = widths[::2], widths[1::2]
    padded = topi.nn.pad(data, before, after, tirx.const(value, data.dtype))
    batch, height, width, inputs = map(int, padded.shape)
    outputs, rows, columns, depth = map(int, weight.shape)
    down, across = map(int, call.attrs.strides)
    apart_down, apart_across = map(int, call.attrs.dilation)
    of_group = outputs // int(call.attrs.groups)
    dtype = str(call.ty.dtype)
    ry = te.reduce_axis((0, rows), "ry")
    rx = te.reduce_axis((0, columns), "rx")
    rc = te.reduce_axis((0, depth), "rc")

    def element(n: tirx.Var, y: tirx.Var, x: tirx.Var, f: tirx.Var) -> tirx.Expr:
        channel = rc if depth == inputs else f // of_group * depth + rc
        read = padded(n, y * down + ry * apart_down, x * across + rx * apart_across, channel)
        return te.sum(read.astype(dtype) * weight(f, ry, rx, rc).astype(dtype), axis=[ry, rx, rc])

    shape = (
        batch,
        (height - (rows - 1) * apart_down - 1) // down + 1,
        (width - (columns - 1) * apart_across - 1) // across + 1,
        outputs,
    )
    return te.compute([tirx.IntImm("int64", n) for n in shape], element, name="conv")

"""Kernels of integers that pad or convert what they read, without a tensor of it.

FuseOps fuses nothing in front of a sum. A convolution of integers is padded with a zero point,
which is no zero and so is an operator of its own; an average converts integers to float32.
"""

from __future__ import annotations

import tvm
from tvm import relax, te, tirx, topi
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
        cast = self._definition(call.args[0], "relax.astype")
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

    def _definition(self, expr: relax.Expr, name: str) -> relax.Call | None:
        """The call of an operator on integers of 8 bits that defines a variable."""
        found = self.builder_.lookup_binding(expr) if isinstance(expr, relax.Var) else None
        if found is None or name_of(found) != name:
            return None
        return found if str(found.args[0].ty.dtype) in _BYTES else None


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

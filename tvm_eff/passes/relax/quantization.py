"""Conversions between numbers and integers of 8 bits as PyTorch computes them, bit for bit.

A quantized network has none of them left (:mod:`tvm_eff.passes.relax.integers`); alone they are
compared with PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir.expr import GenericConst

Legalize = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def legalizations() -> dict[str, Legalize]:
    """Return what each conversion is lowered to, by the operator's name."""
    return {"relax.quantize": _quantize, "relax.dequantize": _dequantize}


def _quantize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """``clip(round(x * (1 / scale)) + zero)``: the inverse is rounded once."""
    data, scale, zero = call.args
    assert isinstance(scale, GenericConst)
    assert isinstance(zero, GenericConst), "activations have one scale"
    dtype = str(call.ty.dtype)
    inverse = float(np.float32(1 / float(scale.value.numpy())))
    shift, limits = float(zero.value.numpy()), np.iinfo(dtype)

    def convert(source: te.Tensor) -> te.Tensor:
        def element(*index: tirx.Var) -> tirx.Expr:
            scaled = tirx.round(source(*index) * tirx.const(inverse, "float32"))
            moved = scaled + tirx.const(shift, "float32")
            high = tirx.const(float(limits.max), "float32")
            low = tirx.const(float(limits.min), "float32")
            return tirx.max(tirx.min(moved, high), low).astype(dtype)

        return te.compute(source.shape, element, name="quantize")

    return builder.call_te(convert, data, primfunc_name_hint="quantize")


def _dequantize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """``float(q - zero) * scale``."""
    axis = int(call.attrs.axis) % int(call.args[0].ty.ndim)

    def convert(source: te.Tensor, scale: te.Tensor, zero: te.Tensor) -> te.Tensor:
        def at(parameter: te.Tensor, index: tuple[Any, ...]) -> tirx.Expr:
            return parameter(*([] if not len(parameter.shape) else [index[axis]]))

        def element(*index: tirx.Var) -> tirx.Expr:
            whole = source(*index).astype("int32") - at(zero, index).astype("int32")
            return whole.astype("float32") * at(scale, index)

        return te.compute(source.shape, element, name="dequantize")

    return builder.call_te(convert, *call.args, primfunc_name_hint="dequantize")

"""Helpers to inspect and rebuild Relax calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax


def name_of(expr: relax.Expr) -> str:
    """Return the operator's name, or an empty string if it is not a call of an operator."""
    is_call = isinstance(expr, relax.Call) and isinstance(expr.op, tvm.ir.Op)
    return str(expr.op.name) if is_call else ""


def shape_of(expr: relax.Expr) -> tuple[int, ...] | None:
    """Return a tensor's static shape, or None for anything else."""
    ty = expr.ty
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        return None
    if not all(isinstance(n, tvm.tirx.IntImm) for n in ty.shape):
        return None
    return tuple(int(n) for n in ty.shape)


def rebuild_call(call: relax.Call, args: Sequence[relax.Expr], **changed: Any) -> relax.Call:
    """Return the call with new arguments and some attributes changed."""
    attrs = call.attrs
    if changed:
        info = type(attrs).__tvm_ffi_type_info__
        values = {field.name: getattr(attrs, field.name) for field in info.fields}
        attrs = tvm.ir.make_node(info.type_key, **{**values, **changed})
    return relax.Call(call.op, list(args), attrs, call.ty_args)


def integers(expr: relax.Expr) -> list[int]:
    """Return the values of a tuple of integer constants."""
    return [int(field) for field in expr.fields]

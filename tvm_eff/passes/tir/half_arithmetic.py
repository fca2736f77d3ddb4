"""Compute in float16 what a schedule keeps in float16.

A network in float16 (:mod:`tvm_eff.passes.relax.half_precision`) sums in float32. A schedule that
keeps sums in float16 changes the dtype of their buffer, between casts; here the arithmetic between
casts becomes that of float16 where no result is rounded more often than before:

- A multiply-add of values of float16 is rounded once instead of twice.
- A sum, difference or product of two values of float16, stored as float16, is the same number: to
  round it to float32 first changes nothing (S. Figueroa, "When is double rounding innocuous?",
  SIGNUM Newsletter 30(3), 1995).
- The larger or smaller of two numbers may be found after both are rounded, since rounding keeps
  their order.
"""

from __future__ import annotations

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock

from tvm_eff.passes.attributes import HALF_SUMS

_HALF, _WIDE = "float16", "float32"
_LARGEST = float(np.finfo(np.float16).max)
_ARITHMETIC = (tirx.Add, tirx.Sub, tirx.Mul)
_LIMITS = (tirx.Max, tirx.Min)


def compute_in_half(mod: tvm.IRModule) -> tvm.IRModule:
    """Return `mod` with the PrimFuncs computed in float16 whose schedules keep sums in it."""
    changed = {
        variable: func.with_body(tvm_ffi.structural_map(func.body, (tirx.Cast, _narrowed)))
        for variable, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc) and _has_mark(func)
    }
    if not changed:
        return mod
    return tvm.IRModule(dict(mod.functions_items()) | changed, attrs=mod.attrs)


def _has_mark(func: tirx.PrimFunc) -> bool:
    def look(block: SBlock) -> tvm_ffi.VisitInterrupt | None:
        return tvm_ffi.VisitInterrupt(block) if HALF_SUMS in block.annotations else None

    return tvm_ffi.structural_walk(func.body, (SBlock, look)) is not None


def _narrowed(cast: tirx.Cast) -> tvm.ir.Expr:
    """What a cast to float16 is computed as; other casts stay as they are."""
    if str(cast.ty.dtype) != _HALF or str(cast.value.ty.dtype) != _WIDE:
        return cast
    return _rounded(cast.value)


def _rounded(value: tvm.ir.Expr) -> tvm.ir.Expr:
    """A value of float32, rounded to float16."""
    exact = _exact(value)
    if exact is not None:
        return exact
    if isinstance(value, _LIMITS):
        return type(value)(_rounded(value.a), _rounded(value.b))
    if isinstance(value, tirx.Select):
        chosen = _rounded(value.true_value), _rounded(value.false_value)
        return tirx.Select(value.condition, *chosen)
    if isinstance(value, _ARITHMETIC):
        a, b = _exact(value.a), _exact(value.b)
        if isinstance(value, tirx.Add) and a is not None and isinstance(value.b, tirx.Mul):
            factors = _exact(value.b.a), _exact(value.b.b)
            if None not in factors:
                return tirx.Add(a, tirx.Mul(*factors))
        if a is not None and b is not None:
            return type(value)(a, b)
    return tirx.Cast(_HALF, value)


def _exact(value: tvm.ir.Expr) -> tvm.ir.Expr | None:
    """A value of float32 in float16, if it is the same number there; otherwise None."""
    if isinstance(value, tirx.Cast) and str(value.value.ty.dtype) == _HALF:
        return value.value
    if isinstance(value, tirx.FloatImm):
        number = float(value.value)
        same = abs(number) <= _LARGEST and float(np.float16(number)) == number
        return tirx.const(number, _HALF) if same else None
    if isinstance(value, _LIMITS):
        a, b = _exact(value.a), _exact(value.b)
        return None if a is None or b is None else type(value)(a, b)
    return None

"""Make numbers of conditions by selection, not by conversion.

A condition on the elements of a vector is -1 where it holds in OpenCL, and converted to a
number it stays -1: TVM takes it for 1, as it is outside of vectors.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx


@tirx.transform.prim_func_pass(opt_level=0)
def select_numbers(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
    """Replace the conversions of conditions in `func` by selections."""

    def select(cast: tirx.Cast) -> tvm.ir.Expr:
        if str(cast.value.ty.dtype) != "bool":
            return cast
        one, zero = (tirx.const(value, str(cast.ty.dtype)) for value in (1, 0))
        return tirx.Select(cast.value, one, zero)

    return tvm_ffi.structural_map(func, (tirx.Cast, select))

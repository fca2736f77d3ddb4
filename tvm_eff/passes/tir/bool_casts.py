"""Lower casts from bool to selects.

A vector comparison in OpenCL yields -1 for true, which a cast to a number keeps; TVM expects
1, as scalar comparisons yield.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx


@tirx.transform.prim_func_pass(opt_level=0)
def lower_bool_casts(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
    """Replace the casts from bool in `func` by selects."""

    def select(cast: tirx.Cast) -> tvm.ir.Expr:
        if str(cast.value.ty.dtype) != "bool":
            return cast
        one, zero = (tirx.const(value, str(cast.ty.dtype)) for value in (1, 0))
        return tirx.Select(cast.value, one, zero)

    return tvm_ffi.structural_map(func, (tirx.Cast, select))

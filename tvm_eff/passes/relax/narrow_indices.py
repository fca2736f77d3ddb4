"""Count loops in 32 bits, where the data are not 64-bit integers themselves.

Loop partitioning loses its hint when a loop's variable is narrowed later on.
TVM's pass refuses functions that hold 64-bit integers, such as token ids or the
positions ``argmax`` returns; those are left alone.
"""

from __future__ import annotations

import tvm
from tvm.error import InternalError
from tvm.tirx import PrimFunc


def narrow_indices() -> tvm.transform.Pass:
    """Return the pass."""
    narrow = tvm.tirx.transform.ForceNarrowIndexToInt32()

    @tvm.ir.transform.module_pass(opt_level=0, name="NarrowIndices")
    def run(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        mod = mod.clone()
        for variable in mod.get_global_vars():
            if not isinstance(mod[variable], PrimFunc):
                continue
            alone = tvm.IRModule({variable: mod[variable]})
            try:
                mod.update_func(variable, narrow(alone)[variable.name_hint])
            except InternalError as error:
                if "has dtype T." not in str(error):
                    raise
        return mod

    return run

"""Narrow loop indices to 32 bits in functions without 64-bit integer data.

Loop partitioning loses its hint when a loop variable is narrowed later. TVM's pass
rejects functions with 64-bit integer data, such as token ids or the indices that
``argmax`` returns; those keep 64-bit indices.
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

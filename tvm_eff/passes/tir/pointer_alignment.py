"""Relax the alignment that kernels assume of their arguments to that of the elements.

TVM promises LLVM that every tensor is 64-byte aligned, as its own allocations are. NumPy
arrays often are not, and would have to be copied first. No processor that TVM vectorizes for
needs the promise: unaligned vector instructions are as fast on aligned data.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

_ALIGNMENT = "storage_alignment"
_BITS_OF_BYTE = 8


@tirx.transform.prim_func_pass(opt_level=0)
def relax_pointer_alignment(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
    """Assume no more than element alignment of the arguments of `func`."""
    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.AttrStmt, _relaxed)))


def _relaxed(stmt: tirx.AttrStmt) -> tirx.Stmt:
    if stmt.attr_key != _ALIGNMENT:
        return stmt
    return tirx.AttrStmt(stmt.node, stmt.attr_key, _element_bytes(stmt.node), stmt.body)


def _element_bytes(buffer: tirx.Buffer) -> tirx.IntImm:
    bits = tvm.DataType(buffer.dtype).bits
    return tirx.IntImm("int32", max(1, bits // _BITS_OF_BYTE))

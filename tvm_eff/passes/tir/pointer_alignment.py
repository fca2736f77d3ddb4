"""Relax the alignment that kernels assume of their arguments to that of the elements.

TVM promises LLVM that every tensor is 64-byte aligned, as its own allocations are. NumPy
arrays often are not, and would have to be copied first. No processor that TVM vectorizes for
needs the promise: unaligned vector instructions are as fast on aligned data.
"""

from __future__ import annotations

import tvm
from tvm import tirx

_ALIGNMENT = "storage_alignment"
_BITS_OF_BYTE = 8


@tirx.transform.prim_func_pass(opt_level=0)
def relax_pointer_alignment(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
    """Assume no more than element alignment of the arguments of `func`."""
    return func.with_body(_relax_alignment(func.body))


def _relax_alignment(stmt: tirx.Stmt) -> tirx.Stmt:
    # Arguments are bound before the first loop.
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_relax_alignment(each) for each in stmt.seq])
    if isinstance(stmt, tirx.AttrStmt):
        value = _element_bytes(stmt.node) if stmt.attr_key == _ALIGNMENT else stmt.value
        return tirx.AttrStmt(stmt.node, stmt.attr_key, value, _relax_alignment(stmt.body))
    return stmt


def _element_bytes(buffer: tirx.Buffer) -> tirx.IntImm:
    bits = tvm.DataType(buffer.dtype).bits
    return tirx.IntImm("int32", max(1, bits // _BITS_OF_BYTE))

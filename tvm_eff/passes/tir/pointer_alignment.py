"""Let kernels read and write tensors at any address that their elements may have.

TVM has LLVM take every tensor to be at a multiple of 64 bytes, where its own are. An array
of numpy's often is not, and would have to be copied first. No processor that TVM compiles
vectors for needs it: loads and stores of vectors are as fast wherever the data happen to be
aligned.
"""

from __future__ import annotations

import tvm
from tvm import tirx

_ALIGNMENT = "storage_alignment"
_BITS_OF_BYTE = 8


@tirx.transform.prim_func_pass(opt_level=0)
def accept_any_address(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
    """Have the arguments of `func` aligned as their elements are, and no further."""
    return func.with_body(_rebuilt(func.body))


def _rebuilt(stmt: tirx.Stmt) -> tirx.Stmt:
    # Arguments are bound before anything is computed: there is no need to look into loops.
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_rebuilt(each) for each in stmt.seq])
    if isinstance(stmt, tirx.AttrStmt):
        value = _element_bytes(stmt.node) if stmt.attr_key == _ALIGNMENT else stmt.value
        return tirx.AttrStmt(stmt.node, stmt.attr_key, value, _rebuilt(stmt.body))
    return stmt


def _element_bytes(buffer: tirx.Buffer) -> tirx.IntImm:
    bits = tvm.DataType(buffer.dtype).bits
    return tirx.IntImm("int32", max(1, bits // _BITS_OF_BYTE))

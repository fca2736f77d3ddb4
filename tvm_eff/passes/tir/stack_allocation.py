"""Allocate a kernel's small buffers on the stack.

TVM allocates every buffer of more than 1024 bytes from the runtime's workspace, each time that
it is reached: the accumulators of one AVX-512 register tile are larger. On the stack they are
free, and LLVM promotes them to registers without having to prove that they do not alias.
"""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import tirx

MAX_BYTES = 32 * 1024
"""The largest buffer that is allocated on the stack."""

_NO_WORKSPACE = "disable_lower_builtin"


@tirx.transform.prim_func_pass(opt_level=0)
def allocate_on_stack(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
    """Mark the small buffers of `func` as not to be allocated from the workspace."""
    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.AllocBuffer, _marked)))


def is_on_stack(stmt: tirx.AllocBuffer) -> bool:
    """Whether a buffer is marked as not to be allocated from the workspace."""
    return _NO_WORKSPACE in dict(stmt.annotations)


def _marked(stmt: tirx.AllocBuffer) -> tirx.Stmt:
    buffer = stmt.buffer
    known = all(isinstance(extent, tirx.IntImm) for extent in buffer.shape)
    if not known or buffer.scope() != "global":
        return stmt
    dtype = tvm.DataType(buffer.dtype)
    size = math.prod(int(n) for n in buffer.shape) * dtype.bits * dtype.lanes // 8
    if size > MAX_BYTES:
        return stmt
    return tirx.AllocBuffer(
        buffer, {**dict(stmt.annotations), _NO_WORKSPACE: tirx.IntImm("bool", 1)}
    )

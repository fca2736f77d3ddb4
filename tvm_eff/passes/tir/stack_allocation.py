"""Keep a kernel's small buffers on the stack.

TVM asks its runtime for every buffer of more than 1024 bytes, each time that the code comes
to it: the accumulators of one register tile of AVX-512 are larger. On the stack they cost
nothing, and LLVM takes them into registers without having to prove that nothing else
can point to them.
"""

from __future__ import annotations

import math

import tvm
from tvm import tirx

MOST_BYTES = 32 * 1024

_LEFT_ALONE = "disable_lower_builtin"


@tirx.transform.prim_func_pass(opt_level=0)
def keep_on_stack(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
    """Mark the small buffers of `func` as ones that TVM shall not ask its runtime for."""
    return func.with_body(_mark(func.body))


def _mark(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.AllocBuffer):
        return _marked(stmt)
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_mark(each) for each in stmt.seq])
    if isinstance(stmt, tirx.For):
        return tirx.For(
            stmt.loop_var,
            stmt.min,
            stmt.extent,
            stmt.kind,
            _mark(stmt.body),
            stmt.thread_binding,
            stmt.annotations,
            stmt.step,
        )
    if isinstance(stmt, tirx.AttrStmt):
        return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, _mark(stmt.body))
    if isinstance(stmt, tirx.IfThenElse):
        other = None if stmt.else_case is None else _mark(stmt.else_case)
        return tirx.IfThenElse(stmt.condition, _mark(stmt.then_case), other)
    return stmt


def _marked(stmt: tirx.AllocBuffer) -> tirx.Stmt:
    buffer = stmt.buffer
    known = all(isinstance(extent, tirx.IntImm) for extent in buffer.shape)
    if not known or buffer.scope() != "global":
        return stmt
    dtype = tvm.DataType(buffer.dtype)
    size = math.prod(int(n) for n in buffer.shape) * dtype.bits * dtype.lanes // 8
    if size > MOST_BYTES:
        return stmt
    return tirx.AllocBuffer(buffer, {**dict(stmt.annotations), _LEFT_ALONE: tirx.IntImm("bool", 1)})

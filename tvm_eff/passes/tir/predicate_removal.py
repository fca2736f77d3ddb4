"""Drop the conditions around sums in registers that only the last, partial tile needs.

Where tiles do not divide a tensor, each statement of the last one is under a condition: the
loads, the stores, and every multiply-add between them. The sum of a position that does not
exist harms nobody, since it is not stored: without the condition all multiply-adds are one
block of straight code.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

REGISTERS = "local"


@tirx.transform.prim_func_pass(opt_level=0)
def drop_guards(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
    """Compute whatever stays in registers, whether or not it is used."""
    found = _Stores()
    found.visit(func.body, ())
    if not found.guards:
        return func

    return func.with_body(_without_guards(func.body, found))


def _without_guards(stmt: tirx.Stmt, found: _Stores) -> tirx.Stmt:
    def rebuilt(inner: tirx.Stmt) -> tirx.Stmt:
        return _without_guards(inner, found)

    if isinstance(stmt, tirx.IfThenElse):
        then = rebuilt(stmt.then_case)
        if found.may_always_run(stmt):
            return then
        other = None if stmt.else_case is None else rebuilt(stmt.else_case)
        return tirx.IfThenElse(stmt.condition, then, other)
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.stmt_seq(*(rebuilt(each) for each in stmt.seq))
    if isinstance(stmt, tirx.AttrStmt):
        return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, rebuilt(stmt.body))
    if isinstance(stmt, tirx.For):
        return tirx.For(
            stmt.loop_var,
            stmt.min,
            stmt.extent,
            stmt.kind,
            rebuilt(stmt.body),
            stmt.thread_binding,
            stmt.annotations,
            stmt.step,
        )
    return stmt


class _Stores:
    """Under which conditions the elements of buffers in registers are written."""

    def __init__(self) -> None:
        self.guards: dict[tuple[Any, str], list[tuple[Any, ...]]] = defaultdict(list)
        self._kinds: dict[Any, set[str]] = defaultdict(set)
        self._bound: dict[Any, set[Any]] = {}
        # Two names of one buffer: what is written under the other name is not known.
        self._has_aliases = False

    def visit(self, stmt: Any, around: tuple[Any, ...]) -> None:
        """Note the stores in `stmt`, which is under the conditions `around`."""
        if isinstance(stmt, tirx.BufferStore):
            if stmt.buffer.scope() == REGISTERS:
                self.guards[_element(stmt)].append(around)
                self._kinds[stmt.buffer].add(_kind(stmt))
        elif isinstance(stmt, tirx.IfThenElse):
            self.visit(stmt.then_case, (*around, stmt.condition))
            if stmt.else_case is not None:
                self.visit(stmt.else_case, around)
        elif isinstance(stmt, tirx.SeqStmt):
            for each in stmt.seq:
                self.visit(each, around)
        elif isinstance(stmt, tirx.DeclBuffer):
            self._has_aliases |= stmt.buffer.scope() == REGISTERS
        elif isinstance(stmt, tirx.Bind):
            self._bound[stmt.var] = self._variables(stmt.value)
        elif isinstance(stmt, (tirx.For, tirx.AttrStmt)):
            self.visit(stmt.body, around)

    def may_always_run(self, stmt: tirx.IfThenElse) -> bool:
        """Whether `stmt` writes nothing but elements that are only ever written under it."""
        if stmt.else_case is not None or self._has_aliases:
            return False
        then = stmt.then_case
        stores = list(then.seq) if isinstance(then, tirx.SeqStmt) else [then]
        return all(self._is_harmless(store, stmt.condition) for store in stores)

    def _is_harmless(self, store: Any, condition: Any) -> bool:
        if not isinstance(store, tirx.BufferStore) or store.buffer.scope() != REGISTERS:
            return False
        # A store at another index, or of another length, might be to the same element.
        if self._kinds[store.buffer] != {_kind(store)} or _kind(store) == _ANYWHERE:
            return False
        everywhere = self.guards[_element(store)]
        if not all(_holds(condition, around) for around in everywhere):
            return False
        return self._reads_what_exists(store.value, self._variables(condition))

    def _reads_what_exists(self, value: Any, decided_by: set[Any]) -> bool:
        """Whether `value` can be computed where the condition does not hold."""
        allowed = True

        def load(each: tvm.ir.TensorLoad) -> None:
            nonlocal allowed
            index = set().union(*(self._variables(n) for n in each.indices))
            if each.source.scope() != REGISTERS and index & decided_by:
                allowed = False

        def call(_: Any) -> None:
            nonlocal allowed
            allowed = False

        tvm_ffi.structural_walk(value, [(tvm.ir.TensorLoad, load), (tvm.ir.Call, call)])
        return allowed

    def _variables(self, expression: Any) -> set[Any]:
        """Return the variables of an expression, those of bound ones in their place."""
        found: set[Any] = set()

        def variable(each: tvm.ir.Var) -> None:
            found.update(self._bound.get(each, {each}))

        tvm_ffi.structural_walk(expression, (tvm.ir.Var, variable))
        return found


_ANYWHERE = "anywhere"


def _kind(store: tirx.BufferStore) -> str:
    """Return how long a store at a fixed place is; ``anywhere`` if its place is not fixed."""
    index = store.indices[0]
    base, lanes = (index.base, index.lanes) if isinstance(index, tirx.Ramp) else (index, 1)
    if len(store.indices) != 1 or not isinstance(base, tirx.IntImm):
        return _ANYWHERE
    return f"{lanes} of {store.buffer.dtype}"


def _element(store: tirx.BufferStore) -> tuple[Any, str]:
    return store.buffer, str(store.indices[0])


def _holds(condition: Any, around: tuple[Any, ...]) -> bool:
    return any(tvm_ffi.structural_equal(condition, each) for each in around)

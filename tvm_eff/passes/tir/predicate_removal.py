"""Remove predicates from accumulations in registers, which only partial tiles need.

Where tiles do not divide a tensor, every statement is predicated: the loads, the stores, and
each multiply-add between them. The sum of a position out of bounds is never stored and can be
computed anyway: without predicates all multiply-adds are one basic block.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

REGISTERS = "local"


@tirx.transform.prim_func_pass(opt_level=0)
def remove_predicates(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
    """Remove the predicates of stores to registers, where that changes no result."""
    found = _Stores()
    found.visit(func.body, ())
    if not found.predicates:
        return func

    def without_predicate(stmt: tirx.IfThenElse) -> tirx.Stmt:
        return stmt.then_case if found.may_always_run(stmt) else stmt

    # From the outside in: what encloses a statement is as it was found.
    body = tvm_ffi.structural_map(
        func.body, (tirx.IfThenElse, without_predicate), order=tvm_ffi.WalkOrder.PREORDER
    )
    return func.with_body(body)


class _Stores:
    """The stores to elements of local buffers, with their enclosing predicates."""

    def __init__(self) -> None:
        self.predicates: dict[tuple[Any, str], list[tuple[Any, ...]]] = defaultdict(list)
        self._kinds: dict[Any, set[str]] = defaultdict(set)
        self._bound: dict[Any, set[Any]] = {}
        # Stores through an alias of a buffer are not tracked.
        self._has_aliases = False

    def visit(self, stmt: Any, enclosing: tuple[Any, ...]) -> None:
        """Record the stores in `stmt`, which the predicates `enclosing` guard."""
        if isinstance(stmt, tirx.BufferStore):
            if stmt.buffer.scope() == REGISTERS:
                self.predicates[_element(stmt)].append(enclosing)
                self._kinds[stmt.buffer].add(_kind(stmt))
        elif isinstance(stmt, tirx.IfThenElse):
            self.visit(stmt.then_case, (*enclosing, stmt.condition))
            if stmt.else_case is not None:
                self.visit(stmt.else_case, enclosing)
        elif isinstance(stmt, tirx.SeqStmt):
            for each in stmt.seq:
                self.visit(each, enclosing)
        elif isinstance(stmt, tirx.DeclBuffer):
            self._has_aliases |= stmt.buffer.scope() == REGISTERS
        elif isinstance(stmt, tirx.Bind):
            self._bound[stmt.var] = self._variables(stmt.value)
        elif isinstance(stmt, (tirx.For, tirx.AttrStmt)):
            self.visit(stmt.body, enclosing)

    def may_always_run(self, stmt: tirx.IfThenElse) -> bool:
        """Whether `stmt` only writes elements that are always written under its condition."""
        if stmt.else_case is not None or self._has_aliases:
            return False
        then = stmt.then_case
        stores = list(then.seq) if isinstance(then, tirx.SeqStmt) else [then]
        return all(self._is_harmless(store, stmt.condition) for store in stores)

    def _is_harmless(self, store: Any, condition: Any) -> bool:
        if not isinstance(store, tirx.BufferStore) or store.buffer.scope() != REGISTERS:
            return False
        # A store with another index or vector length might overlap.
        if self._kinds[store.buffer] != {_kind(store)} or _kind(store) == _DYNAMIC_INDEX:
            return False
        everywhere = self.predicates[_element(store)]
        if not all(_holds(condition, enclosing) for enclosing in everywhere):
            return False
        return self._is_safe_to_evaluate(store.value, self._variables(condition))

    def _is_safe_to_evaluate(self, value: Any, predicate_variables: set[Any]) -> bool:
        """Whether evaluating `value` is safe where the predicate is false."""
        allowed = True

        def load(each: tvm.ir.TensorLoad) -> None:
            nonlocal allowed
            index = set().union(*(self._variables(n) for n in each.indices))
            if each.source.scope() != REGISTERS and index & predicate_variables:
                allowed = False

        def call(_: Any) -> None:
            nonlocal allowed
            allowed = False

        tvm_ffi.structural_walk(value, [(tvm.ir.TensorLoad, load), (tvm.ir.Call, call)])
        return allowed

    def _variables(self, expression: Any) -> set[Any]:
        """Return the free variables of an expression, with bound ones expanded."""
        found: set[Any] = set()

        def variable(each: tvm.ir.Var) -> None:
            found.update(self._bound.get(each, {each}))

        tvm_ffi.structural_walk(expression, (tvm.ir.Var, variable))
        return found


_DYNAMIC_INDEX = "dynamic"


def _kind(store: tirx.BufferStore) -> str:
    """Return the vector type of a store at a constant index; ``dynamic`` for other indices."""
    index = store.indices[0]
    base, lanes = (index.base, index.lanes) if isinstance(index, tirx.Ramp) else (index, 1)
    if len(store.indices) != 1 or not isinstance(base, tirx.IntImm):
        return _DYNAMIC_INDEX
    return f"{lanes} of {store.buffer.dtype}"


def _element(store: tirx.BufferStore) -> tuple[Any, str]:
    return store.buffer, str(store.indices[0])


def _holds(condition: Any, enclosing: tuple[Any, ...]) -> bool:
    return any(tvm_ffi.structural_equal(condition, each) for each in enclosing)

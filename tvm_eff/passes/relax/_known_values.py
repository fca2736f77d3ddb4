"""What is known before an inference: parameters, constants, and what depends on them alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tvm import relax


def known_variables(func: relax.Function) -> dict[relax.Var, bool]:
    """Return for every variable of ``main`` whether it is known before an inference."""
    inputs = int(func.attrs["num_input"]) if func.attrs and "num_input" in func.attrs else 0
    known = {param: index >= inputs for index, param in enumerate(func.params)}
    for var, value in _bindings(func):
        known[var] = all(known.get(each, False) for each in variables(value))
    return known


def bindings(func: relax.Function) -> dict[relax.Var, relax.Expr]:
    """Return what each variable of ``main`` is bound to."""
    return dict(_bindings(func))


def uses(func: relax.Function) -> Counter[relax.Var]:
    """Count how often each variable is read."""
    found: Counter[relax.Var] = Counter(variables(func.body.body))
    for _, value in _bindings(func):
        found.update(variables(value))
    return found


def variables(expr: relax.Expr) -> list[relax.Var]:
    """Return the variables that an expression reads, as often as it does."""
    if isinstance(expr, relax.Var):
        return [expr]
    if isinstance(expr, relax.Call):
        return [x for arg in expr.args for x in variables(arg)]
    if isinstance(expr, relax.Tuple):
        return [x for field in expr.fields for x in variables(field)]
    if isinstance(expr, relax.TupleGetItem):
        return variables(expr.tuple_value)
    return []


def _bindings(func: relax.Function) -> Iterator[tuple[relax.Var, relax.Expr]]:
    for block in func.body.blocks:
        for binding in block.bindings:
            yield binding.var, binding.value

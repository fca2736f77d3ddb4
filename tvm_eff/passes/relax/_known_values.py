"""Dataflow of ``main``: values derived from parameters and constants, definitions and uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tvm import relax


def constant_variables(func: relax.Function) -> dict[relax.Var, bool]:
    """Return for every variable of ``main`` whether it depends on no network input."""
    inputs = int(func.attrs["num_input"]) if func.attrs and "num_input" in func.attrs else 0
    constant = {param: index >= inputs for index, param in enumerate(func.params)}
    for var, value in _bindings(func):
        constant[var] = all(constant.get(each, False) for each in variables(value))
    return constant


def bindings(func: relax.Function) -> dict[relax.Var, relax.Expr]:
    """Return the definition of each variable of ``main``."""
    return dict(_bindings(func))


def uses(func: relax.Function) -> Counter[relax.Var]:
    """Count the uses of each variable."""
    found: Counter[relax.Var] = Counter(variables(func.body.body))
    for _, value in _bindings(func):
        found.update(variables(value))
    return found


def variables(expr: relax.Expr) -> list[relax.Var]:
    """Return the variables that an expression reads, one entry per use."""
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

"""Compute in float16 the layers of a network in float32 that read values rounded to it.

Where some layers are in float16 (:mod:`tvm_eff.frontend.half`), a value is cast to it and back
before such a layer reads it. Here the layer reads the cast value itself: a convolution or a dense
layer multiplies float16 and sums in float32, as where a whole network is in float16
(:mod:`tvm_eff.passes.relax.half_precision`), and its epilogue stays in float32. What only selects
values is done behind the cast, so that what is passed on is half as large; a sum or product of two
such values that is rounded itself is computed in float16, which rounds it once as well
(S. Figueroa, "When is double rounding innocuous?", SIGNUM Newsletter 30(3), 1995).

The network computes the same numbers before and after, up to the order of sums.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax, tirx

from tvm_eff.passes.relax import _known_values
from tvm_eff.passes.relax._calls import name_of, rebuild_call
from tvm_eff.passes.relax.half_precision import HALF, WIDE, mapped
from tvm_eff.passes.relax.precision_rules import CONTRACTIONS, LIMITS, PRODUCTS_AND_SUMS, SELECTIONS


@tvm.ir.transform.module_pass(opt_level=0, name="HalfLayers")
def half_layers(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite ``main``, whose activations are channels-last."""
    return _Rewriter(mod).run()


class _Rewriter:
    """One walk over ``main`` that maps every variable to its values in the new function."""

    def __init__(self, mod: tvm.IRModule) -> None:
        self.main = mod["main"]
        self.bound = _known_values.bindings(self.main)
        self.users = _users(self.bound, self.main.body.body)
        rest = mod.clone()
        del rest["main"]
        self.builder = relax.BlockBuilder(rest)
        # The same value in its own dtype, and in float16 where that holds it exactly.
        self.plain: dict[relax.Var, relax.Expr] = {each: each for each in self.main.params}
        self.half: dict[relax.Var, relax.Expr] = {}
        # The value rounded to float16.
        self.rounded: dict[relax.Var, relax.Expr] = {}
        self.only_rounded: dict[relax.Var, bool] = {}

    def run(self) -> tvm.IRModule:
        """Return the module with ``main`` rewritten."""
        main, builder = self.main, self.builder
        with builder.function("main", list(main.params), dict(main.attrs.items())):
            with builder.dataflow():
                for var, value in self.bound.items():
                    self._define(var, value)
                result = builder.emit_output(mapped(main.body.body, self._plain))
            builder.emit_func_output(result)
        return relax.transform.DeadCodeElimination()(builder.get())

    def _define(self, var: relax.Var, value: relax.Expr) -> None:
        name = name_of(value)
        if name == "relax.astype" and _is(var, HALF) and _is(value.args[0], WIDE):
            self.plain[var] = self._round(value.args[0])
        elif name == "relax.astype" and _is(var, WIDE) and _is(value.args[0], HALF):
            self.half[var] = self._plain(value.args[0])
        elif _chooses(value) and all(each in self.half for each in _known_values.variables(value)):
            self.half[var] = self._emit(value, self.half.__getitem__)
        elif name in CONTRACTIONS and all(each in self.half for each in value.args):
            halves = [self.half[each] for each in value.args]
            self.plain[var] = self.builder.emit(rebuild_call(value, halves, out_dtype=WIDE))
        else:
            self.plain[var] = self._emit(value, self._plain)

    def _emit(self, value: relax.Expr, operand: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        return self.builder.emit(mapped(value, operand))

    def _plain(self, expr: relax.Expr) -> relax.Expr:
        if not isinstance(expr, relax.Var):
            return expr
        if expr not in self.plain:
            self.plain[expr] = self.builder.emit(relax.op.astype(self.half[expr], WIDE))
        return self.plain[expr]

    def _round(self, expr: relax.Expr) -> relax.Expr:
        """Return a value rounded to float16."""
        if expr in self.half:
            return self.half[expr]
        if expr not in self.rounded:
            value = self.bound.get(expr)
            if value is not None and self._moves_behind(expr, value):
                self.rounded[expr] = self._emit(value, self._round)
            else:
                self.rounded[expr] = self.builder.emit(relax.op.astype(self._plain(expr), HALF))
        return self.rounded[expr]

    def _moves_behind(self, var: relax.Var, value: relax.Expr) -> bool:
        """Whether what a value is computed from is rounded in its place: nobody reads it wider."""
        if not self._is_only_rounded(var):
            return False
        if name_of(value) in PRODUCTS_AND_SUMS:
            return all(each in self.half for each in value.args)
        if name_of(value) in LIMITS:
            # Behind a sum, it is the sum's epilogue.
            before = value.args[0]
            held = self.bound.get(before)
            return _chooses(value) and held is not None and self._moves_behind(before, held)
        return _chooses(value)

    def _is_only_rounded(self, var: relax.Var) -> bool:
        if var not in self.only_rounded:
            users = self.users[var]
            self.only_rounded[var] = bool(users) and all(map(self._rounds, users))
        return self.only_rounded[var]

    def _rounds(self, user: relax.Var | None) -> bool:
        if user is None:
            return False
        value = self.bound[user]
        if name_of(value) == "relax.astype":
            return _is(user, HALF)
        if not isinstance(value, relax.Tuple) and not _chooses(value):
            return False
        return self._is_only_rounded(user)


def _users(
    bound: dict[relax.Var, relax.Expr], returned: relax.Expr
) -> dict[relax.Var, list[relax.Var | None]]:
    """The variables that are computed from each one; None among them for one that is returned."""
    found: dict[relax.Var, list[relax.Var | None]] = defaultdict(list)
    for user, value in bound.items():
        for each in _known_values.variables(value):
            found[each].append(user)
    for each in _known_values.variables(returned):
        found[each].append(None)
    return found


def _chooses(value: relax.Expr) -> bool:
    """Whether a call only selects or limits values of float32, by numbers that float16 holds."""
    name = name_of(value)
    if name not in SELECTIONS | LIMITS or not _is(value, WIDE):
        return False
    variables = _known_values.variables(value)
    if not variables or not all(_is(each, WIDE) for each in variables):
        return False
    numbers = [float(each.value) for each in value.args if isinstance(each, tirx.FloatImm)]
    if name == "relax.nn.pad":
        numbers.append(float(value.attrs.pad_value))
    return all(float(np.float16(each)) == each for each in numbers)


def _is(expr: relax.Expr, dtype: str) -> bool:
    return isinstance(expr.ty, relax.TensorType) and str(expr.ty.dtype) == dtype

"""Put another function of the same result in the place of a kernel where it is faster."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.s_tir import meta_schedule as ms
from tvm.tirx import PrimFunc

from tvm_eff import schedules
from tvm_eff.targets import Target


def use_fastest(mod: tvm.IRModule, database: ms.Database, target: Target) -> tvm.IRModule:
    """Rewrite the kernels whose fastest record is of another function of the same result.

    Such a function takes its weight transformed: ``main`` then calls the transform on the
    parameter, which can be computed ahead as all that depends on parameters alone.
    """
    fastest = _Replacer(mod)
    fastest.mod, fastest.chosen = mod, _choose(mod, database, target)
    if not fastest.chosen:
        return mod
    main = fastest.visit_expr(mod["main"])
    rewritten = fastest.builder_.get()
    rewritten["main"] = main
    return relax.transform.DeadCodeElimination(["main"])(rewritten)


@dataclass(frozen=True)
class _Chosen:
    """What takes a kernel's place."""

    alternative: schedules.Alternative
    name: str


def _choose(mod: tvm.IRModule, database: ms.Database, target: Target) -> dict[str, _Chosen]:
    chosen = {}
    for variable, func in mod.functions_items():
        if not isinstance(func, PrimFunc):
            continue
        best = _value(func, database, target)
        for alternative in schedules.alternatives(func):
            value = _value(alternative.func, database, target)
            if value < best:
                best = value
                name = f"{variable.name_hint}_{alternative.name}"
                chosen[str(variable.name_hint)] = _Chosen(alternative, name)
    return chosen


def _value(func: PrimFunc, database: ms.Database, target: Target) -> float:
    mod = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    record = database.query_tuning_record(mod, target.tvm_target(), "main")
    return math.inf if record is None else float(record.run_secs[0])


@mutator
class _Replacer(PyExprMutator):
    mod: tvm.IRModule
    chosen: dict[str, _Chosen]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        if not call.op.same_as(tvm.ir.Op.get("relax.call_tir")):
            return call
        chosen = self.chosen.get(str(call.args[0].name_hint))
        if chosen is None:
            return call
        alternative = chosen.alternative
        kernel = self.builder_.add_func(alternative.func, chosen.name)
        transform = self.builder_.add_func(alternative.transform, f"{chosen.name}_weight")
        arguments = list(call.args[1].fields)
        weight = arguments[alternative.weight_parameter]
        transformed = relax.call_tir(transform, [weight], _type(alternative.transform.params[-1]))
        arguments[alternative.weight_parameter] = self.builder_.emit(transformed)
        return relax.call_tir(kernel, arguments, call.ty_args[0])


def _type(buffer: Any) -> relax.TensorType:
    return relax.TensorType([int(n) for n in buffer.shape], str(buffer.dtype))

"""Put another function of the same result in the place of a kernel.

Such a function takes its weight transformed: ``main`` then calls the transform on the
parameter, which can be computed ahead as all that depends on parameters alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.tirx import PrimFunc


@dataclass(frozen=True)
class KernelReplacement:
    """What takes a kernel's place.

    Attributes
    ----------
    name
        The function's name in the module.
    func
        The function, with the kernel's parameters but for the weight.
    weight_parameter
        Which parameter is the weight.
    transform
        The function that transforms the kernel's weight.
    """

    name: str
    func: PrimFunc
    weight_parameter: int
    transform: PrimFunc


def replace_kernels(
    mod: tvm.IRModule, replacements: Mapping[str, KernelReplacement]
) -> tvm.IRModule:
    """Return `mod` with other functions called in the place of kernels, by the kernels' names."""
    if not replacements:
        return mod
    replacer = _KernelReplacer(mod, replacements)
    main = replacer.visit_expr(mod["main"])
    rewritten = replacer.builder_.get()
    rewritten["main"] = main
    return relax.transform.DeadCodeElimination(["main"])(rewritten)


@mutator
class _KernelReplacer(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, replacements: Mapping[str, KernelReplacement]) -> None:
        super().__init__(mod)
        self.replacements = replacements

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        if not call.op.same_as(tvm.ir.Op.get("relax.call_tir")):
            return call
        replacement = self.replacements.get(str(call.args[0].name_hint))
        if replacement is None:
            return call
        kernel = self.builder_.add_func(replacement.func, replacement.name)
        transform = self.builder_.add_func(replacement.transform, f"{replacement.name}_weight")
        arguments = list(call.args[1].fields)
        weight = arguments[replacement.weight_parameter]
        transformed = relax.call_tir(transform, [weight], _type(replacement.transform.params[-1]))
        arguments[replacement.weight_parameter] = self.builder_.emit(transformed)
        return relax.call_tir(kernel, arguments, call.ty_args[0])


def _type(buffer: Any) -> relax.TensorType:
    return relax.TensorType([int(n) for n in buffer.shape], str(buffer.dtype))

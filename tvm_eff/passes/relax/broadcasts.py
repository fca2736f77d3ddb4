"""Prevent fusion of an operator that broadcasts an activation into its producer.

FuseOps would fuse the multiplication of squeeze-and-excite, a value per channel times a
whole activation, into the small convolution before it: the tile of one position would then
write the whole activation. Marked as injective, the multiplication starts a new kernel.
Broadcasts of parameters (bias) remain epilogues.
"""

from __future__ import annotations

from math import prod

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_eff.passes.attributes import WRITES_SLICE
from tvm_eff.passes.relax import _known_values
from tvm_eff.passes.relax._calls import name_of, shape_of

# tvm::relax::OpPatternKind. TVM marks a kernel as elementwise (0) if only its first input
# has the output's shape.
BROADCAST, INJECTIVE = 1, 2


@tvm.ir.transform.module_pass(opt_level=0, name="SeparateBroadcasts")
def separate_broadcasts(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Mark such calls of ``main``; their kernels must have their ``op_pattern`` already."""
    marker = _Marker(mod)
    marker.mod, marker.is_constant = mod, _known_values.constant_variables(mod["main"])
    main = marker.visit_expr(mod["main"])
    marked = marker.builder_.get()
    marked["main"] = main
    return relax.transform.DeadCodeElimination()(marked)


@mutator
class _Marker(PyExprMutator):
    mod: tvm.IRModule
    is_constant: dict[relax.Var, bool]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        if name_of(call) != "relax.call_tir" or not self._broadcasts_activation(call):
            return call
        name = call.args[0]
        kernel = self.mod[name].with_attr("op_pattern", INJECTIVE)
        apart = self.builder_.add_func(kernel, f"{name.name_hint}_apart")
        return relax.Call(call.op, [apart, *call.args[1:]], call.attrs, call.ty_args)

    def _broadcasts_activation(self, call: relax.Call) -> bool:
        attrs, shape = self.mod[call.args[0]].attrs, shape_of(call)
        if WRITES_SLICE in attrs:
            return False
        if shape is None or int(attrs.get("op_pattern", INJECTIVE)) > BROADCAST:
            return False
        return any(
            prod(own) < prod(shape)
            for arg in _known_values.variables(call.args[1])
            if not self.is_constant[arg] and (own := shape_of(arg)) is not None
        )

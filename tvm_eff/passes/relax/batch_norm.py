"""Rewrite batch norm in inference as a multiplication and an addition per channel.

``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` is ``x * scale + shift`` where
both depend on parameters alone (Ioffe, Szegedy: Batch Normalization, 2015, section
3.1, algorithm 2, step 11). :mod:`tvm_eff.passes.relax.fold_scale` folds them into the
preceding layer, if there is one.
"""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_eff.passes.relax._calls import name_of, shape_of


@tvm.ir.transform.module_pass(opt_level=0, name="SimplifyBatchNorm")
def simplify_batch_norm(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite every batch norm of ``main`` that is in inference mode."""
    mod = mod.clone()
    mod["main"] = _Simplifier(mod).visit_expr(mod["main"])
    return mod


@mutator
class _Simplifier(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if name_of(call) != "relax.nn.batch_norm" or call.attrs.training:
            return call
        data, gamma, beta, mean, variance = call.args
        shape = shape_of(data)
        if shape is None:
            return call
        emit = self.builder_.emit
        epsilon = relax.const(call.attrs.epsilon, variance.ty.dtype)
        deviation = emit(relax.op.sqrt(emit(relax.op.add(variance, epsilon))))
        one = relax.const(1.0, variance.ty.dtype)
        scale = emit(relax.op.divide(gamma if call.attrs.scale else one, deviation))
        shift = emit(relax.op.negative(emit(relax.op.multiply(mean, scale))))
        if call.attrs.center:
            shift = emit(relax.op.add(beta, shift))
        axis = int(call.attrs.axis) % len(shape)
        broadcast_shape = [n if i == axis else 1 for i, n in enumerate(shape)]
        scaled = emit(relax.op.multiply(data, emit(relax.op.reshape(scale, broadcast_shape))))
        normal = emit(relax.op.add(scaled, emit(relax.op.reshape(shift, broadcast_shape))))
        return relax.Tuple([normal, mean, variance])

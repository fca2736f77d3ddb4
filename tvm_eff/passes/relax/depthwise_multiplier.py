"""Split a depthwise convolution with a channel multiplier into several without.

With a multiplier, neighbouring output channels read the same input channel: a vector of
outputs has to gather its inputs. Each of the split convolutions reads and writes whole
vectors, and their outputs are interleaved afterwards.
"""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_eff.passes.relax._calls import name_of, rebuild_call, shape_of

CONVOLUTIONS = {"relax.nn.conv1d": "NCW", "relax.nn.conv2d": "NCHW", "relax.nn.conv3d": "NCDHW"}


@tvm.ir.transform.module_pass(opt_level=0, name="SplitDepthwiseMultiplier")
def split_depthwise_multiplier(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite ``main``, whose activations are channels-first."""
    mod = mod.clone()
    mod["main"] = _Splitter(mod).visit_expr(mod["main"])
    return mod


@mutator
class _Splitter(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        layout = CONVOLUTIONS.get(name_of(call))
        if layout is None or call.attrs.data_layout != layout:
            return call
        data, weight = call.args
        inputs, kernel, outputs = shape_of(data), shape_of(weight), shape_of(call)
        if inputs is None or kernel is None or outputs is None:
            return call
        channels = inputs[1]
        multiplier = outputs[1] // channels
        if channels == 1 or multiplier == 1 or int(call.attrs.groups) != channels:
            return call
        emit = self.builder_.emit
        apart = emit(relax.op.reshape(weight, (channels, multiplier, *kernel[1:])))
        each = (*outputs[:1], channels, 1, *outputs[2:])
        results = []
        for number in range(multiplier):
            one = emit(relax.op.strided_slice(apart, [1], [number], [number + 1]))
            part = emit(
                rebuild_call(call, [data, emit(relax.op.reshape(one, (channels, *kernel[1:])))])
            )
            results.append(emit(relax.op.reshape(part, each)))
        return relax.op.reshape(emit(relax.op.concat(results, axis=2)), outputs)

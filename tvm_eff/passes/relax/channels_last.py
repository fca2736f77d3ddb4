"""Convert activations to channels-last, from the first convolution to the last use.

One walk over the network that tracks the layout of every value. Convolution and pooling
require channels-last; elementwise operators, concatenations, slices and reductions follow
the layout of their input; permutations only update the tracked layout. Other operators get
their inputs in PyTorch's layout: an unknown operator costs a transpose, never correctness.
"""

from __future__ import annotations

import tvm
from tvm import relax

from tvm_eff.passes.relax import layout_rules
from tvm_eff.passes.relax._calls import name_of
from tvm_eff.passes.relax.layouts import Values, plain


@tvm.ir.transform.module_pass(opt_level=0, name="ChannelsLast")
def channels_last(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite ``main``, a sequence of dataflow blocks as the importer emits it."""
    main = mod["main"]
    rest = mod.clone()
    del rest["main"]
    builder = relax.BlockBuilder(rest)
    values = Values(builder)
    with builder.function("main", list(main.params), dict(main.attrs.items())):
        with builder.dataflow():
            for block in main.body.blocks:
                for binding in block.bindings:
                    _rewrite(values, binding.var, binding.value)
            result = builder.emit_output(values.plain(main.body.body))
        builder.emit_func_output(result)
    return relax.transform.DeadCodeElimination()(builder.get())


def _rewrite(values: Values, var: relax.Var, value: relax.Expr) -> None:
    builder = values.builder
    if isinstance(value, relax.TupleGetItem):
        stored, layout = values.tuple_of(value.tuple_value)
        field = builder.emit(relax.TupleGetItem(stored, value.index))
        values.define(var, {layout or plain(len(var.ty.shape)): field})
    elif isinstance(value, relax.Var) and isinstance(value.ty, relax.TensorType):
        values.define(var, dict(values.all(value)))
    elif not isinstance(var.ty, relax.TensorType):
        stored, layout = layout_rules.tuple_of(values, value)
        values.define_tuple(var, builder.emit(stored), layout)
    elif name_of(value) == "relax.permute_dims":
        values.define(var, layout_rules.permuted(values, value))
    else:
        stored, layout = layout_rules.tensor_of(values, value)
        values.define(var, {layout: builder.emit(stored)})

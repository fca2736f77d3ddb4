"""Remove a ReLU that follows a ReLU: the second one changes nothing."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax.dpl import is_op, rewrite_call, wildcard


@tvm.ir.transform.module_pass(opt_level=0, name="IdempotentReLU")
def idempotent_relu(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite ``main``; it runs in the phase ``canonicalize``, before anything is fused."""
    data = wildcard()
    once = is_op("relax.nn.relu")(data)
    twice = is_op("relax.nn.relu")(once)

    def rewritten(call: relax.Call, found: dict[object, relax.Expr]) -> relax.Expr:
        return relax.op.nn.relu(found[data])

    mod = mod.clone()
    mod["main"] = rewrite_call(twice, rewritten, mod["main"])
    return relax.transform.DeadCodeElimination()(mod)

"""Fusion groups: one PrimFunc of several operators, built before FuseOps runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm
from tvm import relax
from tvm.relax import transform
from tvm.s_tir import Schedule, ScheduleError
from tvm.tirx import PrimFunc

from tvm_eff.passes.relax._calls import name_of

EmitCall = Callable[[Sequence[relax.Expr]], relax.Expr]
EmitBody = Callable[[relax.BlockBuilder, Sequence[relax.Expr]], relax.Expr]


def single_operator_kernel(
    mod: tvm.IRModule, inputs: Sequence[relax.TensorType], emit_call: EmitCall, result: str
) -> PrimFunc | None:
    """Return the kernel of one operator in float32, with the casts of inputs and result fused.

    Parameters
    ----------
    mod
        The PrimFuncs that `emit_call` may call.
    inputs
        The types of the kernel's inputs; those in float16 are cast as they are read.
    remake
        Returns the operator's call on float32 inputs.
    result
        The dtype that a float32 result is cast to.

    Returns
    -------
    PrimFunc or None
        None for an operator that LegalizeOps leaves, such as a sort.
    """

    def emit_body(builder: relax.BlockBuilder, given: Sequence[relax.Expr]) -> relax.Expr:
        wide = [_converted(builder, each, "float16", "float32") for each in given]
        value = builder.emit(emit_call(wide))
        return _converted(builder, value, "float32", result)

    kernel = fused_kernel(mod, inputs, emit_body)
    return None if kernel is None else _inline_casts(kernel)


def fused_kernel(
    mod: tvm.IRModule, inputs: Sequence[relax.TensorType], emit_body: EmitBody
) -> PrimFunc | None:
    """Return the kernel of all operators that `emit_body` emits, fused by FuseTIR.

    Parameters
    ----------
    mod
        The PrimFuncs that `emit_body` may call.
    inputs
        The types of the kernel's inputs.
    emit_body
        Emits the operators and returns the result.

    Returns
    -------
    PrimFunc or None
        None if LegalizeOps leaves one of the operators, such as a sort.
    """
    builder = relax.BlockBuilder(mod)
    params = [relax.Var(f"input{index}", each) for index, each in enumerate(inputs)]
    with builder.function("body", params, {"Primitive": True}, private=True):
        with builder.dataflow():
            output = builder.emit_output(emit_body(builder, params))
        function = builder.emit_func_output(output)
    given = [relax.Var(f"given{index}", each) for index, each in enumerate(inputs)]
    with builder.function("main", given):
        with builder.dataflow():
            call = builder.emit_output(relax.Call(function, given))
        builder.emit_func_output(call)
    legal = transform.LegalizeOps()(builder.get())
    operators = [each for each in _values(legal[function]) if isinstance(each, relax.Call)]
    if any(name_of(each) != "relax.call_tir" for each in operators):
        return None
    fused = transform.DeadCodeElimination(["main"])(transform.FuseTIR()(legal))
    [kernel] = [func for _, func in fused.functions_items() if isinstance(func, PrimFunc)]
    return kernel


def _values(func: relax.Function) -> list[relax.Expr]:
    return [binding.value for block in func.body.blocks for binding in block.bindings]


def _converted(
    builder: relax.BlockBuilder, value: relax.Expr, given: str, wanted: str
) -> relax.Expr:
    if str(value.ty.dtype) != given or given == wanted:
        return value
    return builder.emit(relax.op.astype(value, wanted))


def _inline_casts(func: PrimFunc) -> PrimFunc:
    """Inline the casts into the blocks that read or write the values."""
    sch = Schedule(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))
    for block in list(sch.get_child_blocks(sch.get_sblock("root"))):
        for inline in (sch.compute_inline, sch.reverse_compute_inline):
            try:
                inline(block)
            except ScheduleError:
                continue
            break
    return sch.mod["main"].without_attr("global_symbol")

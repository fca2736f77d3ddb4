"""One kernel of several operators, before TVM fuses the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm
from tvm import relax
from tvm.relax import transform
from tvm.s_tir import Schedule, ScheduleError
from tvm.tirx import PrimFunc

from tvm_eff.passes.relax._calls import name_of

Remake = Callable[[Sequence[relax.Expr]], relax.Expr]
Body = Callable[[relax.BlockBuilder, Sequence[relax.Expr]], relax.Expr]


def one_kernel(
    mod: tvm.IRModule, inputs: Sequence[relax.TensorType], remake: Remake, result: str
) -> PrimFunc | None:
    """Return the kernel of one operator, in float32, from inputs and to a result of other types.

    Parameters
    ----------
    mod
        The PrimFuncs that `remake` may call.
    inputs
        The types of the kernel's inputs; those in float16 are converted as they are read.
    remake
        Makes the operator's call of the inputs in float32.
    result
        The dtype to round a result in float32 to.

    Returns
    -------
    PrimFunc or None
        None for an operator that TVM compiles later, such as a sort.
    """

    def body(builder: relax.BlockBuilder, given: Sequence[relax.Expr]) -> relax.Expr:
        wide = [_converted(builder, each, "float16", "float32") for each in given]
        value = builder.emit(remake(wide))
        return _converted(builder, value, "float32", result)

    kernel = fused_kernel(mod, inputs, body)
    return None if kernel is None else _without_copies(kernel)


def fused_kernel(
    mod: tvm.IRModule, inputs: Sequence[relax.TensorType], body: Body
) -> PrimFunc | None:
    """Return the kernel that computes all operators of `body`, by TVM's own fusion.

    Parameters
    ----------
    mod
        The PrimFuncs that `body` may call.
    inputs
        The types of the kernel's inputs.
    body
        Emits the operators and returns the result.

    Returns
    -------
    PrimFunc or None
        None if TVM compiles one of the operators later, such as a sort.
    """
    builder = relax.BlockBuilder(mod)
    params = [relax.Var(f"input{index}", each) for index, each in enumerate(inputs)]
    with builder.function("body", params, {"Primitive": True}, private=True):
        with builder.dataflow():
            output = builder.emit_output(body(builder, params))
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


def _without_copies(func: PrimFunc) -> PrimFunc:
    """Convert where a value is read or written, instead of in a tensor of its own."""
    sch = Schedule(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))
    for block in list(sch.get_child_blocks(sch.get_sblock("root"))):
        for inline in (sch.compute_inline, sch.reverse_compute_inline):
            try:
                inline(block)
            except ScheduleError:
                continue
            break
    return sch.mod["main"].without_attr("global_symbol")

"""Concatenate without a copy: each producer writes its slice of the result.

Before fusion, each input of a concatenation gets a PrimFunc that writes it to its slice of a
tensor of the result's shape, leaving the rest unwritten; fusion merges it into the producer.
When the library is built, after the weights are packed, all but the first of these kernels
write in place into the tensor of the previous one: TVM's weight passes do not support
``call_tir_inplace``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import tvm
from tvm import relax, te, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.script import from_source
from tvm.script import tirx as T
from tvm.tirx import PrimFunc

from tvm_eff.passes.attributes import ASSEMBLES_SLICES, WRITES_SLICE
from tvm_eff.passes.relax import _known_values
from tvm_eff.passes.relax._calls import name_of, shape_of
from tvm_eff.passes.tir import script

# tvm::relax::OpPatternKind. Only elementwise functions are fused into convolutions.
ELEMENTWISE, OPAQUE = 0, 8

# Their results are views or slices of existing tensors.
VIEWS = frozenset(
    f"relax.{name}"
    for name in (
        *("concat", "expand_dims", "flatten", "permute_dims", "reshape", "split"),
        *("squeeze", "strided_slice"),
    )
)


@tvm.ir.transform.module_pass(opt_level=0, name="ConcatenateInPlace")
def concatenate_in_place(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite the concatenations of ``main`` whose inputs have no other use as slice writes."""
    splitter = _SliceSplitter(mod)
    splitter.bound, splitter.uses = (
        _known_values.bindings(mod["main"]),
        _known_values.uses(mod["main"]),
    )
    main = splitter.visit_expr(mod["main"])
    written = splitter.builder_.get()
    written["main"] = main
    return written


@tvm.ir.transform.module_pass(opt_level=0, name="FuseSliceWrites")
def fuse_slice_writes(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Mark slice writes as elementwise, so that FuseOps fuses them into their producers."""
    mod = mod.clone()
    for variable, func in mod.functions_items():
        if isinstance(func, PrimFunc) and WRITES_SLICE in func.attrs:
            mod.update_func(variable, func.with_attr("op_pattern", ELEMENTWISE))
    return mod


@tvm.ir.transform.module_pass(opt_level=0, name="WriteSlicesInPlace")
def write_slices_in_place(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Make the kernels that write the slices of one concatenation share one tensor."""
    # A variable may be bound to another one.
    mod = relax.transform.CanonicalizeBindings()(mod)
    rewriter = _InPlaceRewriter(mod)
    rewriter.mod, rewriter.bound = mod, _known_values.bindings(mod["main"])
    main = rewriter.visit_expr(mod["main"])
    rewritten = rewriter.builder_.get()
    rewritten["main"] = main
    return relax.transform.DeadCodeElimination(["main"])(rewritten)


@mutator
class _SliceSplitter(PyExprMutator):
    bound: dict[relax.Var, relax.Expr]
    uses: Counter[relax.Var]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        if name_of(call) != "relax.concat" or not isinstance(call.args[0], relax.Tuple):
            return call
        inputs = list(call.args[0].fields)
        shapes, whole = [shape_of(each) for each in inputs], shape_of(call)
        known = [shape for shape in shapes if shape is not None]
        if whole is None or len(known) < len(inputs):
            return call
        if not all(map(self._can_write_slice, inputs)):
            return call
        dtype = str(call.ty.dtype)
        if any(str(each.ty.dtype) != dtype for each in inputs):
            return call
        axis = int(call.attrs.axis) % len(whole)
        offset, written = 0, []
        for each, shape in zip(inputs, known, strict=True):
            slice_write = self.builder_.add_func(
                _slice_write(shape, whole, axis, offset, dtype), "place"
            )
            written.append(self.builder_.emit(relax.call_tir(slice_write, [each], call.ty)))
            offset += shape[axis]
        assembly = _assembly([shape[axis] for shape in known], whole, axis, dtype)
        return relax.call_tir(self.builder_.add_func(assembly, "together"), written, call.ty)

    def _can_write_slice(self, each: relax.Expr) -> bool:
        value = self.bound.get(each)
        name = name_of(value) if value is not None else ""
        return bool(name) and name not in VIEWS and self.uses[each] == 1


@mutator
class _InPlaceRewriter(PyExprMutator):
    mod: tvm.IRModule
    bound: dict[relax.Var, relax.Expr]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        if (
            name_of(call) != "relax.call_tir"
            or ASSEMBLES_SLICES not in self.mod[call.args[0]].attrs
        ):
            return call
        first, *others = list(call.args[1].fields)
        calls = [self.bound[each] for each in others if each in self.bound]
        if len(calls) < len(others) or {name_of(each) for each in calls} != {"relax.call_tir"}:
            return call
        result = first
        for each in calls:
            arguments = [*each.args[1].fields, result]
            in_place = relax.op.call_tir_inplace(
                each.args[0], arguments, [len(arguments) - 1], each.ty_args[0]
            )
            result = self.builder_.emit(in_place)
        return result


def _slice_write(
    shape: Sequence[int], whole: Sequence[int], axis: int, offset: int, dtype: str
) -> PrimFunc:
    """A PrimFunc that writes its input at `offset` along `axis` of its output."""
    loops = [f"i{k}" for k in range(len(shape))]
    source = [f"v{k}" for k in range(len(shape))]
    target = [f"{v} + T.int64({offset})" if k == axis else v for k, v in enumerate(source)]
    # 64-bit, as the shapes of Relax.
    part, full = (", ".join(f"T.int64({n})" for n in each) for each in (shape, whole))
    text = f"""
@script.prim_func(private=True, s_tir=True)
def place(part: T.Buffer(({part},), "{dtype}"), whole: T.Buffer(({full},), "{dtype}")):
    T.func_attr({{"{WRITES_SLICE}": True, "tirx.noalias": True}})
    for {", ".join(loops)} in T.grid({part}):
        with T.sblock("place"):
            {", ".join(source)} = T.axis.remap("{"S" * len(shape)}", [{", ".join(loops)}])
            whole[{", ".join(target)}] = part[{", ".join(source)}]
"""
    return from_source(text, {"T": T, "script": script}).without_attr("global_symbol")


def _assembly(lengths: Sequence[int], whole: Sequence[int], axis: int, dtype: str) -> PrimFunc:
    """A PrimFunc that takes each slice of its result from a different input."""
    sizes = [tirx.IntImm("int64", n) for n in whole]
    parts = [te.placeholder(sizes, dtype, name=f"part{k}") for k in range(len(lengths))]

    def at(*index: tirx.Var) -> tirx.Expr:
        chosen, end = parts[-1](*index), sum(lengths)
        for part, length in zip(parts[-2::-1], lengths[:0:-1], strict=True):
            end -= length
            chosen = tirx.Select(index[axis] < end, part(*index), chosen)
        return chosen

    func = te.create_prim_func([*parts, te.compute(sizes, at, name="together")])
    return func.with_attrs({"op_pattern": OPAQUE, ASSEMBLES_SLICES: True}).without_attr(
        "global_symbol"
    )

"""Concatenate without a copy: what computes an input writes it into the result.

Before fusion each input of a concatenation is followed by a function that stores it at its
place in a tensor as large as the result, the rest of which it leaves alone; fusion makes
it part of the kernel that computes the input. When the library is built, and the
weights are packed, all but the first kernel write into the tensor of the one before:
TVM's passes for weights do not know calls that write in place.
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

from tvm_eff.passes.attributes import PLACES, TOGETHER
from tvm_eff.passes.relax import _known_values
from tvm_eff.passes.relax._calls import name_of, shape_of

# tvm::relax::OpPatternKind. Elementwise, since only what is no more than that joins the
# kernel of a convolution.
ELEMENTWISE, OPAQUE = 0, 8

# Their results are other views or parts of tensors that exist.
VIEWS = frozenset(
    f"relax.{name}"
    for name in (
        *("concat", "expand_dims", "flatten", "permute_dims", "reshape", "split"),
        *("squeeze", "strided_slice"),
    )
)


@tvm.ir.transform.module_pass(opt_level=0, name="PlaceConcatenated")
def place_concatenated(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Split the concatenations of ``main`` whose inputs are computed for them alone."""
    placer = _Placer(mod)
    placer.bound, placer.uses = _known_values.bindings(mod["main"]), _known_values.uses(mod["main"])
    main = placer.visit_expr(mod["main"])
    placed = placer.builder_.get()
    placed["main"] = main
    return placed


@tvm.ir.transform.module_pass(opt_level=0, name="FusePlaces")
def fuse_places(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Let what places an input join the kernel before it, whatever its pattern seems."""
    mod = mod.clone()
    for variable, func in mod.functions_items():
        if isinstance(func, PrimFunc) and PLACES in func.attrs:
            mod.update_func(variable, func.with_attr("op_pattern", ELEMENTWISE))
    return mod


@tvm.ir.transform.module_pass(opt_level=0, name="JoinConcatenated")
def join_concatenated(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Have the kernels that place inputs of one concatenation write into one tensor."""
    # A variable may stand for another one.
    mod = relax.transform.CanonicalizeBindings()(mod)
    joiner = _Joiner(mod)
    joiner.mod, joiner.bound = mod, _known_values.bindings(mod["main"])
    main = joiner.visit_expr(mod["main"])
    joined = joiner.builder_.get()
    joined["main"] = main
    return relax.transform.DeadCodeElimination(["main"])(joined)


@mutator
class _Placer(PyExprMutator):
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
        if not all(map(self._is_computed_for_it, inputs)):
            return call
        dtype = str(call.ty.dtype)
        if any(str(each.ty.dtype) != dtype for each in inputs):
            return call
        axis = int(call.attrs.axis) % len(whole)
        offset, placed = 0, []
        for each, shape in zip(inputs, known, strict=True):
            place = self.builder_.add_func(_place(shape, whole, axis, offset, dtype), "place")
            placed.append(self.builder_.emit(relax.call_tir(place, [each], call.ty)))
            offset += shape[axis]
        together = _together([shape[axis] for shape in known], whole, axis, dtype)
        return relax.call_tir(self.builder_.add_func(together, "together"), placed, call.ty)

    def _is_computed_for_it(self, each: relax.Expr) -> bool:
        value = self.bound.get(each)
        name = name_of(value) if value is not None else ""
        return bool(name) and name not in VIEWS and self.uses[each] == 1


@mutator
class _Joiner(PyExprMutator):
    mod: tvm.IRModule
    bound: dict[relax.Var, relax.Expr]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        if name_of(call) != "relax.call_tir" or TOGETHER not in self.mod[call.args[0]].attrs:
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


def _place(
    shape: Sequence[int], whole: Sequence[int], axis: int, offset: int, dtype: str
) -> PrimFunc:
    """A function that stores its input at `offset` along `axis` of its output."""
    loops = [f"i{k}" for k in range(len(shape))]
    source = [f"v{k}" for k in range(len(shape))]
    target = [f"{v} + T.int64({offset})" if k == axis else v for k, v in enumerate(source)]
    # 64-bit, as the shapes of Relax.
    part, full = (", ".join(f"T.int64({n})" for n in each) for each in (shape, whole))
    text = f"""
@T.prim_func(private=True, s_tir=True)
def place(part: T.Buffer(({part},), "{dtype}"), whole: T.Buffer(({full},), "{dtype}")):
    T.func_attr({{"{PLACES}": True, "tirx.noalias": True}})
    for {", ".join(loops)} in T.grid({part}):
        with T.sblock("place"):
            {", ".join(source)} = T.axis.remap("{"S" * len(shape)}", [{", ".join(loops)}])
            whole[{", ".join(target)}] = part[{", ".join(source)}]
"""
    return from_source(text, {"T": T}).without_attr("global_symbol")


def _together(lengths: Sequence[int], whole: Sequence[int], axis: int, dtype: str) -> PrimFunc:
    """A function that takes each part of its result from another of its inputs."""
    sizes = [tirx.IntImm("int64", n) for n in whole]
    parts = [te.placeholder(sizes, dtype, name=f"part{k}") for k in range(len(lengths))]

    def at(*index: tirx.Var) -> tirx.Expr:
        chosen, end = parts[-1](*index), sum(lengths)
        for part, length in zip(parts[-2::-1], lengths[:0:-1], strict=True):
            end -= length
            chosen = tirx.Select(index[axis] < end, part(*index), chosen)
        return chosen

    func = te.create_prim_func([*parts, te.compute(sizes, at, name="together")])
    return func.with_attrs({"op_pattern": OPAQUE, TOGETHER: True}).without_attr("global_symbol")

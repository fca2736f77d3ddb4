"""Store activations and weights as float16, and compute in float32 where precision matters.

Sums (convolutions, dense layers, averages) and functions that amplify rounding errors
(exponentials, roots, quotients, normalization) are computed in float32, and so is the
elementwise epilogue of a sum. A value is rounded once, when it is stored: every kernel reads
float16 and writes float16 (a schedule may keep sums in float16, which is measured against this:
:mod:`tvm_eff.schedules.cpu.half_sums`). Data movement, comparisons, clipping, additions and
multiplications of stored values are computed in float16, with no additional rounding. Inputs
and outputs of the network stay float32.

TVM's own ``ToMixedPrecision`` rounds a sum before its bias is added, and passes float32
between kernels before an average. This pass predicts the fusion groups of ``FuseOps``; a wrong
prediction costs a tensor passed as float32, never precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst

from tvm_eff.passes.relax import _known_values
from tvm_eff.passes.relax._calls import integers, name_of, rebuild_call, shape_of
from tvm_eff.passes.relax._grouping import single_operator_kernel
from tvm_eff.passes.relax.precision_rules import (
    CONTRACTIONS,
    DATA_MOVEMENT,
    ELEMENTWISE,
    FLOAT32_FUNCTIONS,
    MIN_MAX_REDUCTIONS,
    REDUCTIONS,
    VIEWS,
)

HALF, WIDE = "float16", "float32"
_FLOAT16_MAX = float(np.finfo(np.float16).max)

Map = Callable[[relax.Expr], relax.Expr]


@tvm.ir.transform.module_pass(opt_level=0, name="HalfPrecision")
def half_precision(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite ``main``, whose activations and parameters are float32."""
    return _Converter(mod).run()


class _Converter:
    """One walk over ``main`` that maps every variable to its converted values."""

    def __init__(self, mod: tvm.IRModule) -> None:
        self.main = mod["main"]
        self.is_constant = _known_values.constant_variables(self.main)
        self.uses = _known_values.uses(self.main)
        self.kernels = mod.clone()
        del self.kernels["main"]
        self.builder = relax.BlockBuilder(self.kernels)
        # The value as kernels read it; constants stay float32 here.
        self.stored: dict[relax.Var, relax.Expr] = {}
        # The float32 value, for a single use that is fused into the same kernel.
        self.exact: dict[relax.Var, relax.Expr] = {}
        self.tuples: dict[relax.Var, relax.Tuple] = {}
        # The fusion group, anchored by more than an elementwise operator, that certainly or
        # possibly computes the value.
        self.kernel: dict[relax.Var, int] = {}
        self.maybe_anchored: set[relax.Var] = set()
        self.returned = self._find_returned()

    def run(self) -> tvm.IRModule:
        """Return the module with ``main`` rewritten."""
        main, builder = self.main, self.builder
        with builder.function("main", list(main.params), dict(main.attrs.items())):
            with builder.dataflow():
                for param in main.params:
                    self._define(param, param)
                for block in main.body.blocks:
                    for binding in block.bindings:
                        self._define(binding.var, self._converted(binding.var, binding.value))
                result = builder.emit_output(self._return_value(main.body.body))
            builder.emit_func_output(result)
        return relax.transform.DeadCodeElimination()(builder.get())

    def _define(self, var: relax.Var, value: relax.Expr) -> None:
        if self.is_constant[var] or not _is(value, WIDE):
            self.stored[var] = value
            return
        self.stored[var] = self.builder.emit(relax.op.astype(value, HALF))
        if self.uses[var] == 1:
            self.exact[var] = value

    def _converted(self, var: relax.Var, value: relax.Expr) -> relax.Expr:
        """Emit the converted value of a binding, and return it."""
        if self.is_constant[var]:
            return self.builder.emit(mapped(value, self._stored_operand))
        if isinstance(value, relax.Tuple):
            self.tuples[var] = value
        if not isinstance(value, relax.Call):
            return self.builder.emit(mapped(value, self._half))
        if not any(_is(each, WIDE) for each in operands(value)):
            return self.builder.emit(mapped(value, self._stored_operand))
        kernel = self._kernel_of(value)
        if kernel is not None:
            self.kernel[var] = kernel
        moves = name_of(value) in DATA_MOVEMENT and not is_prefix(value)
        if kernel is not None or (not moves and self.maybe_anchored.intersection(operands(value))):
            self.maybe_anchored.add(var)
        return self._computed(var, value)

    def _computed(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        name = name_of(call)
        if name == "relax.astype" and _is(call, WIDE):
            return self._half(call.args[0])
        if name in CONTRACTIONS:
            halves = [self._half(arg) for arg in call.args]
            return self.builder.emit(rebuild_call(call, halves, out_dtype=WIDE))
        follows = self._continued(call)
        if name in FLOAT32_FUNCTIONS or (
            name in ELEMENTWISE and (follows is not None or not _fits_half(call))
        ):
            return self._kernel(call, lambda x: self._exact(x, follows))
        if name in ELEMENTWISE | DATA_MOVEMENT | MIN_MAX_REDUCTIONS:
            moved = is_prefix(call) or (name in VIEWS and var in self.returned)
            whole = follows is not None and moved
            result = mapped(call, self.exact.__getitem__ if whole else self._half)
            if name == "relax.nn.pad":
                value = _in_range(np.asarray(call.attrs.pad_value))
                result = rebuild_call(result, result.args, pad_value=float(value))
            return self.builder.emit(result)
        if not isinstance(call.ty, relax.TensorType):
            return self.builder.emit(mapped(call, self._wide))
        if name in REDUCTIONS and self._fuses_producers(call.args[0]):
            del self.kernel[var]
            self.maybe_anchored.remove(var)
            return self.builder.emit(mapped(call, self.exact.__getitem__))
        operand = self._half if name == "relax.call_tir" else self._stored_operand
        return self._kernel(call, operand, rounded=var not in self.returned)

    def _find_returned(self) -> set[relax.Var]:
        """The values that are only returned, possibly reshaped: they are not rounded."""
        bindings = [each for block in self.main.body.blocks for each in block.bindings]
        found = set(_known_values.variables(self.main.body.body))
        for binding in reversed(bindings):
            value = binding.value
            if binding.var not in found or self.uses[binding.var] != 1:
                continue
            if isinstance(value, relax.Tuple) or name_of(value) in VIEWS:
                found.update(_known_values.variables(value))
        return {each for each in found if self.uses[each] == 1}

    def _kernel(self, call: relax.Call, operand: Map, rounded: bool = False) -> relax.Expr:
        """Emit the call as one kernel that computes in float32."""
        leaves = list(dict.fromkeys(operands(call)))
        given = [operand(each) for each in leaves]

        def emit_call(inputs: Sequence[relax.Expr]) -> relax.Expr:
            made = dict(zip(leaves, inputs, strict=True))
            # Scalars are embedded in the kernel.
            return mapped(call, lambda each: made[each] if operands(each) else each)

        types = [each.ty for each in given]
        kernel = single_operator_kernel(self.kernels, types, emit_call, HALF if rounded else WIDE)
        if kernel is None:
            return self.builder.emit(mapped(call, self._wide))
        dtype = HALF if rounded and _is(call, WIDE) else call.ty.dtype
        result = relax.TensorType(call.ty.shape, dtype)
        variable = self.builder.add_func(kernel, _kernel_name(call))
        return self.builder.emit(relax.call_tir(variable, given, result))

    def _continued(self, call: relax.Call) -> relax.Var | None:
        """Return the operand whose fusion group the call joins, if its float32 value is known.

        Of several groups, ``FuseOps`` extends the first one.
        """
        activations = self._activations(call)
        reshaped = is_prefix(call) or name_of(call) in VIEWS
        if not reshaped and any(shape_of(x) != shape_of(call) for x in activations):
            return None
        first = min(
            (x for x in activations if x in self.kernel and self.uses[x] == 1),
            key=lambda x: self.kernel[x],
            default=None,
        )
        candidates = activations if first is None else [first]
        return next((x for x in candidates if x in self.exact), None)

    def _kernel_of(self, call: relax.Call) -> int | None:
        """Return the fusion group of a call: a new one, its first producer's, or None."""
        name = name_of(call)
        if name in DATA_MOVEMENT and not is_prefix(call):
            return None
        if name not in ELEMENTWISE | FLOAT32_FUNCTIONS | DATA_MOVEMENT:
            return len(self.stored)
        before = [
            self.kernel[x]
            for x in self._activations(call)
            if x in self.kernel and self.uses[x] == 1
        ]
        return min(before, default=None)

    def _activations(self, call: relax.Call) -> list[relax.Var]:
        return [x for x in operands(call) if isinstance(x, relax.Var) and not self.is_constant[x]]

    def _exact(self, expr: relax.Expr, follows: relax.Var | None) -> relax.Expr:
        """An operand of a float32 kernel that joins the group of the operand `follows`."""
        return self.exact[expr] if expr.same_as(follows) else self._stored_operand(expr)

    def _stored_operand(self, expr: relax.Expr) -> relax.Expr:
        """An operand as stored, for a kernel that computes in float32."""
        return self.stored[expr] if isinstance(expr, relax.Var) else expr

    def _fuses_producers(self, expr: relax.Expr) -> bool:
        """Whether a reduction fuses the elementwise operators before it.

        Squares may overflow float16. A reduction that fuses its producers has no epilogue.
        """
        return expr in self.exact and expr not in self.maybe_anchored

    def _half(self, expr: relax.Expr) -> relax.Expr:
        """An operand of an operator that computes in float16."""
        value = self._stored_operand(expr)
        if not _is(value, WIDE):
            return value
        if isinstance(value, GenericConst):
            return _half_constant(value)
        return self.builder.emit(relax.op.astype(value, HALF))

    def _wide(self, expr: relax.Expr) -> relax.Expr:
        """An operand of an unknown operator, in its original dtype."""
        value = self._stored_operand(expr)
        if not _is(value, HALF):
            return value
        return self.builder.emit(relax.op.astype(value, WIDE))

    def _return_value(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._return_value(each) for each in expr.fields])
        if expr in self.tuples:
            return self._return_value(self.tuples[expr])
        return self.exact[expr] if expr in self.exact else self._wide(expr)


def operands(expr: relax.Expr) -> list[relax.Expr]:
    """Return the tensors that a call reads, without scalar constants."""
    if isinstance(expr, relax.Var):
        return [expr]
    if isinstance(expr, GenericConst):
        return [expr] if expr.value.ndim else []
    if isinstance(expr, relax.Call):
        return [x for arg in expr.args for x in operands(arg)]
    if isinstance(expr, relax.Tuple):
        return [x for each in expr.fields for x in operands(each)]
    return operands(expr.tuple_value) if isinstance(expr, relax.TupleGetItem) else []


def mapped(expr: relax.Expr, operand: Map) -> relax.Expr:
    """Return an expression with mapped operands, which are its variables and constants."""
    if isinstance(expr, relax.Var | GenericConst):
        return operand(expr)
    if isinstance(expr, relax.Call):
        args = [mapped(arg, operand) for arg in expr.args]
        return relax.Call(expr.op, args, expr.attrs, expr.ty_args)
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([mapped(each, operand) for each in expr.fields])
    if isinstance(expr, relax.TupleGetItem):
        return relax.TupleGetItem(mapped(expr.tuple_value, operand), expr.index)
    return expr


def is_prefix(expr: relax.Expr) -> bool:
    """Whether a call slices off the end of its input, such as padded channels."""
    if name_of(expr) != "relax.strided_slice":
        return False
    _, _, begin, _, *strides = expr.args
    return not any(integers(begin)) and all(set(integers(each)) <= {1} for each in strides)


def _kernel_name(call: relax.Call) -> str:
    name = name_of(call)
    return call.args[0].name_hint if name == "relax.call_tir" else name.rpartition(".")[2]


def _is(expr: relax.Expr, dtype: str) -> bool:
    return isinstance(expr.ty, relax.TensorType) and str(expr.ty.dtype) == dtype


def _fits_half(call: relax.Call) -> bool:
    """Whether the call's constants are in the normal range of float16."""
    values = [x.value.numpy() for x in call.args if isinstance(x, GenericConst)]
    values += [np.asarray(x.value) for x in call.args if isinstance(x, tirx.FloatImm)]
    magnitudes = [np.abs(x[x != 0]) for x in values if x.dtype.kind == "f"]
    smallest = np.finfo(np.float16).tiny
    return all(((x >= smallest) & (x <= _FLOAT16_MAX)).all() for x in magnitudes)


def _half_constant(constant: GenericConst) -> GenericConst:
    return relax.const(_in_range(constant.value.numpy()).astype(np.float16))


def _in_range(values: np.ndarray) -> np.ndarray:
    """Clip finite values to the range of float16: a mask's -1e9 must not become infinite."""
    return np.where(np.isfinite(values), np.clip(values, -_FLOAT16_MAX, _FLOAT16_MAX), values)

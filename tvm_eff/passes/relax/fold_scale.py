"""Fold constant per-channel scales and shifts into the preceding layer's weight and bias.

Folded are a multiplication by constants per channel after a convolution, transposed
convolution or dense layer, with or without a bias; and a second constant addition. The
layer's output must have no other use. Weights remain expressions of the parameters, which
are evaluated ahead of time.
"""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_eff.passes.relax import _known_values
from tvm_eff.passes.relax._calls import name_of, rebuild_call, shape_of

CONVOLUTIONS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d")
TRANSPOSED = tuple(f"{name}_transpose" for name in CONVOLUTIONS)


@tvm.ir.transform.module_pass(opt_level=0, name="FoldScale")
def fold_scale(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Fold in ``main``, whose activations are channels-first as imported."""
    mod = mod.clone()
    main = mod["main"]
    folder = _Folder(mod)
    folder.is_constant, folder.uses = (
        _known_values.constant_variables(main),
        _known_values.uses(main),
    )
    mod["main"] = folder.visit_expr(main)
    return relax.transform.DeadCodeElimination()(mod)


@mutator
class _Folder(PyExprMutator):
    is_constant: dict[relax.Var, bool]
    uses: dict[relax.Var, int]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        name = name_of(call)
        if name not in ("relax.multiply", "relax.add"):
            return call
        for data, constant in (tuple(call.args), tuple(reversed(call.args))):
            if not self._is_channelwise(data, constant):
                continue
            folded = self._scaled(data, constant) if name == "relax.multiply" else None
            if name == "relax.add":
                folded = self._shifted(data, constant)
            if folded is not None:
                return folded
        return call

    def _scaled(self, data: relax.Expr, scale: relax.Expr) -> relax.Expr | None:
        """Return ``data * scale`` with the scale folded into the weights."""
        layer = self._read_once(data)
        bias = None
        if layer is not None and name_of(layer) == "relax.add":
            layer, bias = self._split_bias(layer)
        if layer is None:
            return None
        weighted = self._with_scaled_weight(layer, scale)
        if weighted is None or bias is None:
            return weighted
        emit = self.builder_.emit
        return relax.op.add(emit(weighted), emit(relax.op.multiply(bias, scale)))

    def _shifted(self, data: relax.Expr, shift: relax.Expr) -> relax.Expr | None:
        """Return ``(layer + bias) + shift`` as ``layer + (bias + shift)``."""
        added = self._read_once(data)
        if added is None or name_of(added) != "relax.add":
            return None
        for layer, bias in (tuple(added.args), tuple(reversed(added.args))):
            if self._is_channelwise(layer, bias):
                return relax.op.add(layer, self.builder_.emit(relax.op.add(bias, shift)))
        return None

    def _split_bias(self, added: relax.Call) -> tuple[relax.Expr | None, relax.Expr | None]:
        for output, bias in (tuple(added.args), tuple(reversed(added.args))):
            if self._is_channelwise(output, bias):
                return self._read_once(output), bias
        return None, None

    def _with_scaled_weight(self, layer: relax.Expr, scale: relax.Expr) -> relax.Expr | None:
        name = name_of(layer)
        if name not in (*CONVOLUTIONS, *TRANSPOSED, "relax.matmul"):
            return None
        data, weight = layer.args
        if not self._is_constant(weight):
            return None
        emit = self.builder_.emit
        shape = shape_of(weight)
        assert shape is not None, "weights have fixed shapes"
        if name == "relax.matmul":
            if len(shape) != 2 or len(shape_of(data) or ()) != 2:
                return None
            return rebuild_call(layer, [data, emit(relax.op.multiply(weight, scale))])
        if name in CONVOLUTIONS:
            factors = emit(relax.op.reshape(scale, (shape[0], *[1] * (len(shape) - 1))))
            return rebuild_call(layer, [data, emit(relax.op.multiply(weight, factors))])
        # A transposed convolution's weight is [input channel][output channel of the group].
        groups, kernel = int(layer.attrs.groups), shape[2:]
        apart = emit(relax.op.reshape(weight, (groups, shape[0] // groups, *shape[1:])))
        factors = emit(relax.op.reshape(scale, (groups, 1, shape[1], *[1] * len(kernel))))
        scaled = emit(relax.op.multiply(apart, factors))
        return rebuild_call(layer, [data, emit(relax.op.reshape(scaled, shape))])

    def _is_channelwise(self, data: relax.Expr, value: relax.Expr) -> bool:
        """Whether `value` is constant, with one element per channel of `data`."""
        whole, part = shape_of(data), shape_of(value)
        if not whole or part is None or not self._is_constant(value) or self._is_constant(data):
            return False
        axis = 1
        along = tuple(n if i == axis else 1 for i, n in enumerate(whole))
        missing = len(whole) - len(part)
        return missing >= 0 and (1,) * missing + part == along

    def _is_constant(self, expr: relax.Expr) -> bool:
        return all(self._is_constant_variable(each) for each in _known_values.variables(expr))

    def _is_constant_variable(self, var: relax.Var) -> bool:
        if var not in self.is_constant:
            definition = self.builder_.lookup_binding(var)
            self.is_constant[var] = definition is not None and self._is_constant(definition)
        return self.is_constant[var]

    def _read_once(self, expr: relax.Expr) -> relax.Expr | None:
        """Return the definition of a variable if it has a single use."""
        # Variables that this pass emits are not counted: they have a single use.
        if not isinstance(expr, relax.Var) or self.uses.get(expr, 1) != 1:
            return None
        return self.builder_.lookup_binding(expr)

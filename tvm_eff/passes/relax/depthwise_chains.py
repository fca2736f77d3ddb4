"""Fuse a depthwise convolution into the convolution that is its only consumer.

Such a layer has a low arithmetic intensity. Where cores have private caches, a few rows of its
result stay there until the next convolution has read them; see
:mod:`tvm_eff.schedules.cpu.depthwise_chain` and
:mod:`tvm_eff.schedules.cpu.depthwise_pointwise`. The second convolution must read one row per
row of its result, as the horizontal half of a separable kernel does, so that no row is
recomputed. A large pointwise one is not fused: it is faster by Strassen's algorithm, and its
traffic is dominated by its weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_eff.passes.relax import _known_values
from tvm_eff.passes.relax._calls import name_of, rebuild_call, shape_of
from tvm_eff.passes.relax._grouping import fused_kernel
from tvm_eff.targets import Target

# tvm::relax::OpPatternKind: out-elementwise-fusable, which FuseOps fuses an epilogue into.
WITH_EPILOGUE = 4

MAX_KERNEL_ELEMENTS = 12
"""Elements of the depthwise kernel, which is unrolled."""

MAX_WEIGHTS = 1 << 15
"""Of a pointwise convolution, which reads all of them once per row block."""

BETWEEN = frozenset({"relax.add", "relax.nn.relu", "relax.clip"})
"""Operators that are fused between the two convolutions."""


def chain_depthwise(target: Target) -> tvm.transform.Pass:
    """Return the pass for a target; it expects channels-last convolutions, weights in OHWI."""

    @tvm.ir.transform.module_pass(opt_level=0, name="ChainDepthwise")
    def run(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        if not target.private_caches:
            return mod
        main = mod["main"]
        rewriter = _ChainRewriter(mod)
        rewriter.lanes = target.lanes
        rewriter.bound, rewriter.uses = _known_values.bindings(main), _known_values.uses(main)
        rewriter.is_constant = _known_values.constant_variables(main)
        changed = rewriter.visit_expr(main)
        rewritten = rewriter.builder_.get()
        rewritten["main"] = changed
        return relax.transform.DeadCodeElimination(["main"])(rewritten)

    return run


@dataclass(frozen=True)
class _Chain:
    """Operators from a depthwise convolution to the next convolution, in order.

    Attributes
    ----------
    variables
        The variables that all but the last of them are bound to.
    calls
        The operators.
    """

    variables: Sequence[relax.Var]
    calls: Sequence[relax.Call]

    @property
    def inputs(self) -> list[relax.Expr]:
        """The tensors that they read from outside the chain."""
        inner = set(self.variables)
        return [a for call in self.calls for a in _tensors(call) if a not in inner]


@mutator
class _ChainRewriter(PyExprMutator):
    lanes: int
    bound: dict[relax.Var, relax.Expr]
    uses: Counter[relax.Var]
    is_constant: dict[relax.Var, bool]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        chain = self._chain(call)
        if chain is None:
            return call
        inputs = chain.inputs
        kernel = fused_kernel(tvm.IRModule(), [each.ty for each in inputs], _EmitChain(chain))
        if kernel is None:
            return call
        kernel = kernel.with_attr("op_pattern", WITH_EPILOGUE).without_attr("global_symbol")
        name = self.builder_.add_func(kernel, "depthwise_chain")
        return relax.call_tir(name, [self.visit_expr(each) for each in inputs], call.ty)

    def _chain(self, call: relax.Call) -> _Chain | None:
        if not (_is_horizontal(call) or _is_pointwise(call)):
            return None
        variables: list[relax.Var] = []
        calls = [call]
        while True:
            before = calls[0].args[0]
            value = self.bound.get(before)
            if value is None or self.uses[before] != 1:
                return None
            variables.insert(0, before)
            calls.insert(0, value)
            if _is_depthwise(value):
                return _Chain(variables, calls) if self._fits_a_tile(value) else None
            if name_of(value) not in BETWEEN or not self._reads_constants_only(value):
                return None

    def _reads_constants_only(self, call: relax.Call) -> bool:
        """Whether all inputs but the first are constants."""
        return all(self.is_constant.get(each, False) for each in _tensors(call)[1:])

    def _fits_a_tile(self, first: relax.Call) -> bool:
        _, height, width, _ = shape_of(first.args[1]) or (0, 0, 0, 0)
        channels = int(first.ty.shape[3])
        return height * width <= MAX_KERNEL_ELEMENTS and channels % self.lanes == 0


class _EmitChain:
    """Emits the operators of a chain on other inputs."""

    def __init__(self, chain: _Chain) -> None:
        self.chain = chain

    def __call__(self, builder: relax.BlockBuilder, given: Sequence[relax.Expr]) -> relax.Expr:
        chain = self.chain
        made: dict[relax.Expr, relax.Expr] = dict(zip(chain.inputs, given, strict=True))
        for variable, call in zip([*chain.variables, None], chain.calls, strict=True):
            value = builder.emit(rebuild_call(call, [made.get(each, each) for each in call.args]))
            if variable is not None:
                made[variable] = value
        return value


def _tensors(call: relax.Call) -> list[relax.Expr]:
    return [each for each in call.args if isinstance(each.ty, relax.TensorType)]


def _is_convolution(call: relax.Expr) -> bool:
    if name_of(call) != "relax.nn.conv2d":
        return False
    return all(str(each.ty.dtype) == "float32" for each in (call, call.args[0]))


def _is_depthwise(call: relax.Expr) -> bool:
    if not _is_convolution(call):
        return False
    groups, channels = int(call.attrs.groups), int(call.ty.shape[3])
    shape = shape_of(call.args[0])
    return shape is not None and groups == channels == shape[3] > 1


def _is_horizontal(call: relax.Call) -> bool:
    """Whether it is a depthwise convolution of kernel height and vertical stride one."""
    if not _is_depthwise(call):
        return False
    kernel = shape_of(call.args[1])
    top, _, bottom, _ = (int(n) for n in call.attrs.padding)
    strides = [int(n) for n in call.attrs.strides]
    fits = kernel is not None and kernel[1] == 1 and kernel[2] <= MAX_KERNEL_ELEMENTS
    return bool(fits) and strides[0] == 1 and (top, bottom) == (0, 0)


def _is_pointwise(call: relax.Call) -> bool:
    """Whether it is a pointwise convolution with few enough weights to reread per row block."""
    if not _is_convolution(call) or int(call.attrs.groups) != 1:
        return False
    kernel = shape_of(call.args[1])
    if kernel is None or kernel[1:3] != (1, 1) or kernel[0] * kernel[3] > MAX_WEIGHTS:
        return False
    moves = {int(n) for n in call.attrs.strides}, {int(n) for n in call.attrs.padding}
    return moves == ({1}, {0})

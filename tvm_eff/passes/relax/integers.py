"""Compute a quantized network in integers: what PyTorch writes as numbers between conversions.

PyTorch's quantized programs convert integers to numbers, compute in float32, and convert back.
One walk over the network finds what is stored as integers, and computes on them: convolutions
and dense layers in 32 bits, starting from the bias and from what zero points add; then one scale
a channel, rounded half to even and limited, which is the epilogue of the kernel. Nothing is
converted before somebody needs it; an operator without a rule reads numbers as before.

The arithmetic is that of Jacob et al. (CVPR 2018) with a scale in float32, which rounds once: a
result does not depend on a compiler's fused multiply-adds, nor on the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tvm
from tvm import relax

from tvm_eff.passes.network import RelaxNetwork
from tvm_eff.passes.relax._calls import name_of
from tvm_eff.passes.relax.integer_rules import RULES
from tvm_eff.passes.relax.integer_values import Known, Quantized, State, Values

_QUANTIZED = ("relax.quantize", "relax.dequantize")


def is_quantized(network: RelaxNetwork) -> bool:
    """Whether a network has conversions from or to integers of 8 bits."""
    return any(
        name_of(binding.value) in _QUANTIZED
        for block in network.mod["main"].body.blocks
        for binding in block.bindings
    )


def in_integers(network: RelaxNetwork, dot_product: int = 1) -> RelaxNetwork:
    """Return a quantized network in integers; any other one as it is.

    Parameters
    ----------
    network
        As imported: its scales, zero points and quantized weights are constants or parameters.
    dot_product
        How many products one instruction adds: fewer input channels are padded to so many.
    """
    if not is_quantized(network):
        return network
    passes = [relax.transform.CanonicalizeBindings(), relax.transform.DeadCodeElimination()]
    mod = tvm.transform.Sequential(passes)(network.mod)
    main = mod["main"]
    count = int(main.attrs["num_input"])
    inputs, held = list(main.params)[:count], list(main.params)[count:]
    rest = mod.clone()
    del rest["main"]
    builder = relax.BlockBuilder(rest)
    values = Values(builder, dot_product)
    used: dict[relax.Var, np.ndarray] = {}
    for var in inputs:
        values.define(var, None, _itself(var))
    for var, value in zip(held, network.params, strict=True):
        values.define(var, Known(value), _noted(used, var, value))
    with builder.function("main", attrs=dict(main.attrs.items())):
        with builder.dataflow():
            for block in main.body.blocks:
                for binding in block.bindings:
                    _rewrite(values, binding.var, binding.value)
            result = builder.emit_output(values.plain(main.body.body))
        parameters = {**used, **values.parameters}
        builder.emit_func_output(result, [*inputs, *parameters])
    rewritten = relax.transform.DeadCodeElimination()(builder.get())
    return replace(network, mod=rewritten, params=list(parameters.values()))


def _rewrite(values: Values, var: relax.Var, value: relax.Expr) -> None:
    state: State | None = None
    if isinstance(value, relax.Var):
        values.define(var, values.state_of(value), lambda: values.plain(value))
        return
    rule = RULES.get(name_of(value))
    state = rule(values, value) if rule is not None else None
    if name_of(value) == "relax.quantize":
        assert isinstance(state, Quantized), "its rule makes integers of anything"
        values.define_integers(var, state)
    elif state is None:
        emitted = values.emit(values.plain(value))
        values.define(var, None, lambda: emitted)
    else:
        known = state
        values.define(var, state, lambda: values.in_float32(known))


def _itself(var: relax.Var) -> Callable[[], relax.Expr]:
    return lambda: var


def _noted(
    used: dict[relax.Var, np.ndarray], var: relax.Var, value: np.ndarray
) -> Callable[[], relax.Expr]:
    """A parameter that stays is one that somebody reads."""

    def plain() -> relax.Expr:
        used[var] = value
        return var

    return plain

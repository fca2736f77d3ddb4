"""Evaluate at compile time what depends on parameters alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax import transform

_LIFTED = "main_transform_params"


def evaluate_parameters(
    mod: tvm.IRModule, params: Sequence[np.ndarray]
) -> tuple[tvm.IRModule, list[np.ndarray]]:
    """Run the parameter transform that LiftTransformParams split off, on this machine.

    Parameters
    ----------
    mod
        A module as LiftTransformParams leaves it.
    params
        The parameters before the transform.

    Returns
    -------
    tuple
        The module without the transform, and the parameters of its ``main``.
    """
    lifted = mod.clone()
    lifted["main"] = mod[_LIFTED].with_attr("global_symbol", "main")
    del lifted[_LIFTED]
    lifted = transform.DeadCodeElimination(["main"])(lifted)
    executable = relax.build(transform.LegalizeOps()(lifted), target="llvm")
    machine = relax.VirtualMachine(executable, tvm.cpu())
    results = machine["main"]([tvm.runtime.tensor(p) for p in params])
    rest = mod.clone()
    del rest[_LIFTED]
    return rest, [result.numpy() for result in results]


def parameter_sources(mod: tvm.IRModule) -> list[tuple[int, ...]]:
    """Return which parameters each result of the parameter transform is computed from.

    Parameters
    ----------
    mod
        A module as LiftTransformParams leaves it.

    Returns
    -------
    list of tuple of int
        For each parameter of its ``main`` behind the inputs, the numbers of the parameters before
        the transform, ascending.
    """
    lifted = mod[_LIFTED]
    (given,) = lifted.params
    found: dict[Any, set[int]] = {}

    def sources(value: Any) -> set[int]:
        if isinstance(value, relax.TupleGetItem) and value.tuple_value.same_as(given):
            return {int(value.index)}
        used = relax.analysis.all_vars(value)
        return set().union(*(found.get(each, set()) for each in used))

    results: Any = lifted.body.body
    bound: dict[Any, Any] = {}
    for block in lifted.body.blocks:
        for binding in block.bindings:
            found[binding.var] = sources(binding.value)
            bound[binding.var] = binding.value
    while results in bound:
        results = bound[results]
    if results.same_as(given):
        return [(number,) for number in range(len(given.ty.fields))]
    return [tuple(sorted(sources(each))) for each in results.fields]

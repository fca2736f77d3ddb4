"""Evaluate at compile time what depends on parameters alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax import transform
from tvm.target import Target

from tvm_eff.passes.attributes import AT_LOAD

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
    # LLVM takes longest: over copies that are views, checks of arguments, and code that runs once.
    views = transform.RewriteDataflowReshape()(transform.LegalizeOps()(_used(lifted)))
    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        executable = relax.build(_used(views), target=Target({"kind": "llvm", "opt-level": 0}))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    results = machine["main"]([tvm.runtime.tensor(p) for p in params])
    rest = mod.clone()
    del rest[_LIFTED]
    return rest, [result.numpy() for result in results]


def _used(mod: tvm.IRModule) -> tvm.IRModule:
    return transform.DeadCodeElimination(["main"])(mod)


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


def leave_growing_transforms(
    mod: tvm.IRModule, params: Sequence[np.ndarray], packed: Sequence[np.ndarray]
) -> tuple[tvm.IRModule, set[relax.Var]]:
    """Have ``main`` itself make the parameters that are larger than those they are made of.

    Parameters
    ----------
    mod
        A module as LiftTransformParams leaves it.
    params
        The parameters before the transform.
    packed
        Those after it.

    Returns
    -------
    tuple
        A module whose ``main`` does not take them; what makes them is marked ``AT_LOAD``. Then the
        parameters that it took before.
    """
    main, transformed = mod["main"], _Transform(mod[_LIFTED], params)
    results = zip(main.params[-len(packed) :], transformed.results, packed, strict=True)
    grown = {
        variable: result
        for variable, result, array in results
        if array.nbytes > transformed.bytes_of(result)
    }
    needed = transformed.needed_by(grown.values())
    first, *others = main.body.blocks
    made = [relax.VarBinding(variable, result) for variable, result in grown.items()]
    block = relax.DataflowBlock([*needed, *made, *first.bindings])
    mod = mod.clone()
    del mod[_LIFTED]
    mod["main"] = relax.Function(
        [each for each in main.params if each not in grown],
        relax.SeqExpr([block, *others], main.body.body),
        main.ret_ty,
        attrs=main.attrs,
    )
    for each in needed:
        if isinstance(each.value, relax.Call):
            kernel = each.value.args[0]
            mod[kernel] = mod[kernel].with_attr(AT_LOAD, True)
    return transform.CanonicalizeBindings()(mod), set(grown)


class _Transform:
    """A parameter transform whose parameters are constants."""

    def __init__(self, lifted: relax.Function, params: Sequence[np.ndarray]) -> None:
        bindings = [each for block in lifted.body.blocks for each in block.bindings]
        self._bindings = {each.var: each for each in bindings}
        self._params = params
        self.results = list(self._bindings[lifted.body.body].value.fields)

    def bytes_of(self, result: relax.Var) -> int:
        """The bytes of the parameters that a result is made of."""
        values = (self._bindings[each].value for each in self._behind(result))
        used = {each.index for each in values if isinstance(each, relax.TupleGetItem)}
        return sum(self._params[number].nbytes for number in used)

    def needed_by(self, results: Iterable[relax.Var]) -> list[relax.VarBinding]:
        """Return the bindings that make results, in order."""
        behind = set().union(*(self._behind(each) for each in results))
        return [self._of_constants(each) for each in self._bindings.values() if each.var in behind]

    def _of_constants(self, binding: relax.VarBinding) -> relax.VarBinding:
        if not isinstance(binding.value, relax.TupleGetItem):
            return binding
        return relax.VarBinding(binding.var, relax.const(self._params[binding.value.index]))

    def _behind(self, variable: relax.Var) -> set[relax.Var]:
        """A variable, and all that it is made of."""
        found, left = set(), [variable]
        while left:
            each = left.pop()
            if each in self._bindings and each not in found:
                found.add(each)
                left.extend(relax.analysis.free_vars(self._bindings[each].value))
        return found

"""Evaluate at compile time what depends on parameters alone."""

from __future__ import annotations

from collections.abc import Sequence

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

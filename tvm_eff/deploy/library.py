"""From a lowered network and its records to one library that holds code and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tvm
from tvm.relax import transform
from tvm.s_tir import meta_schedule as ms

from tvm_eff.codegen import build_module
from tvm_eff.deploy.alternatives import use_fastest
from tvm_eff.errors import BuildError
from tvm_eff.passes import RelaxNetwork, write_slices_in_place
from tvm_eff.passes.relax.parameters import evaluate_parameters
from tvm_eff.targets import OpenCLRequirements, Target
from tvm_eff.tune import Task


def build_library(
    network: RelaxNetwork,
    tasks: list[Task],
    database: ms.Database | None,
    target: Target,
    path: Path,
) -> OpenCLRequirements | None:
    """Apply the records, pack the weights, compile and link.

    Parameters
    ----------
    network
        The lowered network.
    tasks
        Its kernels; each must have a record in `database`.
    database
        MetaSchedule's database of winners; None leaves every kernel as imported.
    target
        What the library is for.
    path
        The library to write. Its ``main`` takes the network's inputs only.

    Returns
    -------
    OpenCLRequirements or None
        What the library needs of the GPU; None if it runs on the processor.

    Raises
    ------
    BuildError
        A record does not fit its kernel, or compiling or linking fails.
    """
    mod = network.mod
    if database is not None:
        mod = _apply(use_fastest(mod, database, target), tasks, database, target)
    return build_module(_with_weights(mod, network.params), target, path)


def _apply(
    mod: tvm.IRModule, tasks: list[Task], database: ms.Database, target: Target
) -> tvm.IRModule:
    with target.tvm_target(), database, tvm.transform.PassContext(opt_level=3):
        applied = transform.MetaScheduleApplyDatabase()(mod)
    # The pass is silent where it finds no record (apache/tvm#19385).
    present = {str(variable.name_hint) for variable in applied.get_global_vars()}
    kept = [task.name for task in tasks if task.name in present]
    missed = [name for name in kept if not _is_scheduled(applied[name])]
    if missed:
        raise BuildError(
            f"the records of {', '.join(missed)} were not applied: they are from another "
            "version of TVM or tvm_eff; move the target's log folder away and tune again"
        )
    return applied


def _is_scheduled(func: tvm.tirx.PrimFunc) -> bool:
    return func.attrs is not None and bool(func.attrs.get("tirx.is_scheduled", False))


def _with_weights(mod: tvm.IRModule, params: list[np.ndarray]) -> tvm.IRModule:
    """Pack the weights as the schedules want them, and bind them as constants."""
    with tvm.transform.PassContext(opt_level=3):
        mod = transform.SplitLayoutRewritePreproc()(mod)
        mod = transform.LiftTransformParams()(write_slices_in_place(mod))
        mod, packed = evaluate_parameters(mod, params)
        # By variable: two lifted parameters may have the same name.
        variables = mod["main"].params[len(mod["main"].params) - len(packed) :]
        values = [tvm.runtime.tensor(p) for p in packed]
        bound = transform.BindParams("main", dict(zip(variables, values, strict=True)))(mod)
        return transform.DeadCodeElimination(["main"])(bound)

"""From a lowered network and its winners to one library that holds code and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import tvm
from tvm.relax import transform
from tvm.s_tir import meta_schedule as ms
from tvm.tirx import PrimFunc

from tvm_eff import schedules
from tvm_eff.codegen import build_module
from tvm_eff.deploy.manifest import KernelSchedule
from tvm_eff.errors import BuildError, SpaceError
from tvm_eff.passes import RelaxNetwork, pipeline
from tvm_eff.passes.relax.kernel_replacement import KernelReplacement, replace_kernels
from tvm_eff.schedules import Candidate
from tvm_eff.targets import OpenCLRequirements, Target
from tvm_eff.tune.records.database import tuning_record
from tvm_eff.tune.task import Task
from tvm_eff.tune.task import kernels as kernels_of

Winners = Mapping[str, Candidate]
"""The candidate that each kernel is built with, by the kernel's workload."""


def build_library(
    network: RelaxNetwork, winners: Winners | None, target: Target, path: Path
) -> OpenCLRequirements | None:
    """Apply the winners, pack the weights, compile and link.

    Parameters
    ----------
    network
        The lowered network.
    winners
        For each of its kernels, what it is scheduled by; None leaves all as imported.
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
        A kernel has no winner, or one that does not fit, or compiling or linking fails.
    """
    mod = network.mod if winners is None else schedule_kernels(network.mod, winners, target)
    return build_module(pipeline.pack_weights(mod, network.params), target, path)


def kernel_schedules(network: RelaxNetwork, winners: Winners) -> dict[str, KernelSchedule]:
    """Return what each kernel of a library is scheduled by, for its manifest."""
    chosen = {name: winners[task.workload] for name, task in kernels_of(network.mod).items()}
    return {name: KernelSchedule(each.rule, each.as_dict()) for name, each in chosen.items()}


def schedule_kernels(mod: tvm.IRModule, winners: Winners, target: Target) -> tvm.IRModule:
    """Return a lowered network whose kernels are scheduled by their winners.

    Raises
    ------
    BuildError
        A kernel has no winner, or one that does not fit it.
    """
    kernels = kernels_of(mod)
    missing = [name for name, task in kernels.items() if task.workload not in winners]
    if missing:
        raise BuildError(f"nothing is on record of the kernels {', '.join(missing)}; tune them")
    chosen = {name: winners[task.workload] for name, task in kernels.items()}
    mod = replace_kernels(mod, _replacements(kernels, chosen))
    return _apply(mod, _database(kernels, chosen, target), target, kernels)


def _replacements(
    kernels: Mapping[str, Task], chosen: Mapping[str, Candidate]
) -> dict[str, KernelReplacement]:
    """What stands in the place of kernels whose winners schedule another function."""
    found = {}
    for name, candidate in chosen.items():
        other = schedules.alternative(kernels[name].func, candidate)
        if other is not None:
            found[name] = KernelReplacement(
                f"{name}_{other.name}", other.func, other.weight_parameter, other.transform
            )
    return found


def _database(
    kernels: Mapping[str, Task], chosen: Mapping[str, Candidate], target: Target
) -> ms.Database:
    """The winners' schedules, as MetaSchedule's pass applies them."""
    database = ms.database.MemoryDatabase()
    for name, candidate in chosen.items():
        task = kernels[name]
        try:
            schedule = schedules.apply(task.func, candidate, target)
        except SpaceError as error:
            raise BuildError(f"the kernel {name} cannot be scheduled: {error}") from error
        scheduled = replace(task, func=schedules.rewritten(task.func, candidate))
        record = tuning_record(scheduled, schedule, 1.0, target)
        # The database asks for the very workload that it holds.
        workload = database.commit_workload(record.workload.mod)
        database.commit_tuning_record(
            ms.database.TuningRecord(
                record.trace, workload, record.run_secs, record.target, record.args_info
            )
        )
    return database


def _apply(
    mod: tvm.IRModule, database: ms.Database, target: Target, kernels: Mapping[str, Task]
) -> tvm.IRModule:
    with target.tvm_target(), database, pipeline.pass_context():
        applied = transform.MetaScheduleApplyDatabase()(mod)
    # The pass is silent where it finds no record (apache/tvm#19385).
    present = {str(variable.name_hint) for variable in applied.get_global_vars()}
    missed = [name for name in kernels if name in present and not _is_scheduled(applied[name])]
    if missed:
        raise BuildError(
            f"the schedules of {', '.join(missed)} were not applied: MetaSchedule does not "
            "recognize the kernels; report this with the model"
        )
    return applied


def _is_scheduled(func: PrimFunc) -> bool:
    return func.attrs is not None and bool(func.attrs.get("tirx.is_scheduled", False))

"""The constants that the kernels of a library should have been given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import tvm
from tvm import relax
from tvm.ir.expr import GenericConst

from tvm_eff.deploy.library import schedule_kernels
from tvm_eff.deploy.manifest import KernelSchedule
from tvm_eff.errors import BuildError
from tvm_eff.passes import RelaxNetwork, pipeline
from tvm_eff.schedules import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune.task import kernels

_CALLS = ("relax.call_tir", "relax.call_tir_inplace")

Constants = dict[int, np.ndarray]
"""Some arguments of a call, by their places."""


def candidate_of(schedule: KernelSchedule) -> Candidate:
    """Return the candidate that a manifest names."""
    return Candidate.of(schedule.rule, schedule.decisions)


def packed_constants(
    network: RelaxNetwork, schedules: Mapping[str, KernelSchedule], target: Target
) -> list[Constants] | None:
    """Return the constants of each call in the layouts of its schedule.

    Parameters
    ----------
    network
        The network as lowered, with the model's own weights.
    schedules
        What each kernel is scheduled by, as a bundle's manifest says.
    target
        What the library is for.

    Returns
    -------
    list or None
        For each call in order; None if a schedule is not known, or no rule has it any more.
    """
    tasks = kernels(network.mod)
    if tasks.keys() - schedules.keys():
        return None
    winners = {task.workload: candidate_of(schedules[name]) for name, task in tasks.items()}
    try:
        scheduled = schedule_kernels(network.mod, winners, target)
    except BuildError:
        return None
    packed = pipeline.pack_weights(scheduled, network.params)
    return [_constants(each) for each in _calls(packed)]


def _calls(mod: tvm.IRModule) -> Iterator[relax.Call]:
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call) and getattr(value.op, "name", "") in _CALLS:
                yield value


def _constants(call: relax.Call) -> Constants:
    given = enumerate(call.args[1].fields)
    return {place: each.value.numpy() for place, each in given if isinstance(each, GenericConst)}

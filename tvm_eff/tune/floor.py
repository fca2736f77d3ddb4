"""The least a kernel can cost: its multiply-adds, if nothing else took any time."""

from __future__ import annotations

import math

from tvm_eff.device import Unit
from tvm_eff.space import structure
from tvm_eff.targets import Target
from tvm_eff.tune.task import Task


def floor(task: Task, target: Target, unit: Unit) -> float:
    """Return a lower bound of one call of a kernel, by the target file's facts.

    In instructions it is the number of vector multiply-adds; in seconds, what all
    cores together take for them at the top clock. It is 0 for a kernel that is no
    convolution or dense layer.
    """
    work = structure.contraction(task.func)
    if work is None:
        return 0.0
    hardware = target.hardware
    vectors = math.prod(work.extents) / hardware.lanes
    if unit == "instructions":
        return vectors
    return vectors / (hardware.fma_per_cycle * hardware.clock_ghz * 1e9 * hardware.cores)

"""Measure a built candidate: run it, check what it computes, say what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tvm_eff.build.compile import KERNEL
from tvm_eff.device import Device, Measurement, MeasureOptions
from tvm_eff.errors import ExecutionError
from tvm_eff.tune.checker import TOLERANCE, relative_error
from tvm_eff.tune.task import Task

OPTIONS = MeasureOptions(repeat=5, min_repeat_ms=10.0, budget_s=0.5)

HOPELESS = 1.5
"""What takes this many times as long as the best is not measured with care."""


def measure(
    device: Device,
    task: Task,
    library: Path,
    inputs: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    best: float = math.inf,
) -> tuple[Measurement, float]:
    """Run and measure one candidate.

    Parameters
    ----------
    device
        Where to run it.
    task
        What it computes.
    library
        The built candidate.
    inputs
        Its inputs, packed weights included.
    reference
        What it must compute.
    best
        The best value of the kernel's other candidates.

    Returns
    -------
    tuple
        The measurement, and the error as a fraction of the reference's spread.

    Raises
    ------
    ExecutionError
        The candidate crashes, hangs, raises, or computes something else.
    DeviceError
        The device is gone.
    """
    options = replace(OPTIONS, stop_above=HOPELESS * best)
    outputs, measurement = device.call(library, KERNEL, inputs, task.outputs, measure=options)
    error = max(relative_error(a, b) for a, b in zip(outputs, reference, strict=True))
    if not error <= TOLERANCE:
        raise ExecutionError(
            f"wrong result: it differs from the reference by {error:.2g} of its spread "
            f"(allowed {TOLERANCE:g})"
        )
    assert measurement is not None, "a measurement was asked for"
    return measurement, error

"""Measure a built candidate: run it, check what it computes, say what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tvm_eff.codegen.compile import KERNEL
from tvm_eff.device import Device, Measurement, MeasureOptions
from tvm_eff.errors import ExecutionError
from tvm_eff.tune.checker import kernel_error, kernel_tolerance
from tvm_eff.tune.task import Task

OPTIONS = MeasureOptions(repeat=3, min_repeat_ms=2.5, budget_s=0.2)

CLEARLY_WORSE = 1.1
"""What takes this many times as long as the best at a short look is not measured with care."""


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
    tolerance = kernel_tolerance(spec.dtype for spec in task.parameters)
    options = replace(OPTIONS, stop_above=CLEARLY_WORSE * best)

    def attempt() -> tuple[Measurement | None, float]:
        outputs, measurement = device.call(
            library, KERNEL, inputs, task.outputs, measure=options, keep=True
        )
        pairs = zip(outputs, reference, strict=True)
        return measurement, max(kernel_error(a, b, tolerance) for a, b in pairs)

    measurement, error = attempt()
    if not error <= tolerance:
        # Inputs on the device may have been written by the candidate before.
        device.forget()
        measurement, error = attempt()
    if not error <= tolerance:
        device.forget()
        raise ExecutionError(
            f"wrong result: it differs from the reference by {error:.2g} of its spread "
            f"(allowed {tolerance:g})"
        )
    assert measurement is not None, "a measurement was asked for"
    return measurement, error

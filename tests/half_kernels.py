"""Kernels in float16 on the emulated Cortex-A76: how they are made, run and judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from kernels import Bench
from torch import nn

from tvm_eff import schedules, targets
from tvm_eff.codegen import build_kernel
from tvm_eff.schedules import Candidate
from tvm_eff.tensors import kernel_tolerance
from tvm_eff.tune import Task

RASP5 = targets.load("rasp5")
ALLOWED = kernel_tolerance(["float16"])

Case = tuple[nn.Module, tuple[int, ...]]
"""A network, and the shape of its input."""


def then(*layers: nn.Module) -> nn.Module:
    """Append what keeps a layer's result in float16: a network's outputs are float32."""
    return nn.Sequential(*layers, nn.MaxPool2d(1, 2)).eval()


def run(bench: Bench, task: Task, candidate: Candidate, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return a kernel's output on the board."""
    library = bench.folder / "one.so"
    build_kernel(schedules.apply(task.func, candidate, RASP5), RASP5, library)
    packed = schedules.pack_inputs(schedules.packings(task.func, candidate), inputs)
    (output,), _ = bench.device.call(library, "main", packed, task.outputs)
    return output


def require_right(bench: Bench, task: Task, tried: Sequence[Candidate]) -> None:
    """Require that one of these candidates is near enough, and none far off."""
    errors = bench.errors(task, list(tried), RASP5)
    told = dict(zip(tried, errors, strict=True))
    # A candidate that rounds too much is refused by the tuner: there is one that does not.
    assert min(errors) <= ALLOWED, told
    assert max(errors) <= 2 * ALLOWED, told
    # Sums that were not of float16 would be the same numbers.
    assert max(errors) > 0, told

"""What runs in a builder's worker process: schedule and compile one candidate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import tvm
from tvm.tirx import PrimFunc

from tvm_eff import space
from tvm_eff.build import build_kernel
from tvm_eff.device import TensorSpec
from tvm_eff.numerics import unwritten
from tvm_eff.targets import Target
from tvm_eff.tune.checker import random_inputs


@dataclass(frozen=True)
class BuildJob:
    """A candidate to build; all of it can be sent to another process.

    Attributes
    ----------
    module
        The kernel as TVM's JSON, under the name ``main``.
    candidate
        How to schedule it.
    target
        What to build for.
    library
        Where to write the library.
    """

    module: str
    candidate: space.Candidate
    target: Target
    library: Path


@lru_cache(maxsize=8)
def _load_function(module: str) -> PrimFunc:
    return tvm.ir.load_json(module)["main"]


def build(job: BuildJob) -> Path:
    """Build one candidate and return its library."""
    sch = space.apply(_load_function(job.module), job.candidate, job.target)
    build_kernel(sch, job.target, job.library)
    return job.library


def reference(
    module: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> list[np.ndarray]:
    """Run the unscheduled function here on the inputs that candidates are checked with."""
    built = tvm.tirx.build(tvm.ir.load_json(module), target="llvm")
    arguments = [tvm.runtime.tensor(x) for x in random_inputs(inputs)]
    # As on the device: what the function leaves alone must be equal there and here.
    results = [tvm.runtime.tensor(unwritten(spec)) for spec in outputs]
    built["main"](*arguments, *results)
    return [result.numpy() for result in results]

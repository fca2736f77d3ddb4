"""Our library as a user compiles it, in a process of its own."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_eff.errors import BuildError


@dataclass(frozen=True)
class Compiled:
    """What a compilation has said.

    Attributes
    ----------
    bundle
        The bundle's folder.
    where
        The device of the figures, in words.
    unit
        Theirs, ``seconds`` or ``instructions``.
    cost
        What an inference costs.
    kernels_before
        What all kernels cost unscheduled, as the report of this very compilation says; None if
        one was not measured on this machine.
    error
        The largest error, as a fraction of the spread of PyTorch's output.
    candidates
        How many were measured now.
    seconds
        How long it took.
    """

    bundle: Path
    where: str
    unit: str
    cost: float
    kernels_before: float | None
    error: float
    candidates: int
    seconds: float


def compile_apart(model: str, cores: Sequence[int] | None = None, **options: Any) -> Compiled:
    """Call :func:`tvm_eff.compile` in a new process, which has nothing imported and no caches.

    Parameters
    ----------
    model
        The model.
    cores
        The processors it may use; all by default.
    options
        Those of :func:`tvm_eff.compile`.

    Raises
    ------
    Error
        What the compilation raises, or its process dies.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_compile, model, cores, options).result()
        except BrokenProcessPool as error:
            raise BuildError(f"the process that compiled {model} died") from error


def _compile(model: str, cores: Sequence[int] | None, options: dict[str, Any]) -> Compiled:
    if cores is not None:
        # Before TVM and the builders are started: they inherit it.
        os.sched_setaffinity(0, cores)
    import tvm_eff

    bundle = tvm_eff.compile(model, **options)
    report = bundle.report
    assert report is not None, "it was compiled just now"
    before = report.kernels_before
    return Compiled(
        bundle=bundle.folder.resolve(),
        where=report.where,
        unit=report.measurement.unit,
        cost=report.measurement.median,
        kernels_before=None if math.isnan(before) else before,
        error=bundle.error,
        candidates=report.measured,
        seconds=round(report.seconds, 1),
    )

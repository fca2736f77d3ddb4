"""Our library as a user compiles it, in a process of its own."""

from __future__ import annotations

import math
import multiprocessing
import os
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import psutil

from engines.parent import end_with_parent
from tvm_eff.cli import interrupt
from tvm_eff.cli.run import leave
from tvm_eff.errors import BuildError, Error

_PATIENCE_S = 3.0
"""How long a compilation may take to stop what it has started; one that is killed leaves files in
the temporary folder, which the next one removes."""


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
    priors
        Of how many kernels the values are another machine's or other code's.
    """

    bundle: Path
    where: str
    unit: str
    cost: float
    kernels_before: float | None
    error: float
    candidates: int
    seconds: float
    priors: int


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
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_compile_and_tell, args=(sender, model, cores, options))
    try:
        process.start()
        sender.close()
        found: Compiled | Error = receiver.recv()
        process.join()
    except EOFError as error:
        raise BuildError(f"the process that compiled {model} died") from error
    finally:
        _end(process)
        receiver.close()
    if isinstance(found, Error):
        raise found
    return found


def _end(process: SpawnProcess) -> None:
    """End a compilation that nobody waits for any more, and what it has started."""
    if process.pid is None:
        return
    started: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    process.join(_PATIENCE_S)
    process.kill()
    process.join()
    for each in started:
        # The server that builders are forked from imports TVM before it sees that it is alone.
        with suppress(psutil.NoSuchProcess):
            each.kill()


def _compile_and_tell(
    sender: Connection, model: str, cores: Sequence[int] | None, options: dict[str, Any]
) -> None:
    end_with_parent()
    interrupt.remember()
    found: Compiled | Error
    try:
        found = _compile(model, cores, options)
    except KeyboardInterrupt:
        leave(interrupt.exit_code())
    except Error as error:
        found = error
    except Exception as error:
        traceback.print_exc()
        found = BuildError(f"{type(error).__name__}: {error}")
    with suppress(BrokenPipeError):
        sender.send(found)


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
        priors=len(report.priors),
    )

"""One engine on the emulated board: converted here, checked there, then counted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np

from engines.arm_board import ARCH, Board
from engines.arm_mix import Mix, MixCounter, MixDevice
from engines.base import Engine, Job
from engines.process import EngineError, EngineProcess
from engines.turns import TOLERANCE
from tvm_eff.device import MeasureOptions
from tvm_eff.errors import Error
from tvm_eff.tensors import network_tolerance, relative_error

TOLERANCES = {"float32": TOLERANCE, "float16": network_tolerance("float16"), "int8": 0.1}
"""Largest errors, as fractions of the spread of PyTorch's float32 output, by dtype."""

_FEW, _MANY = 1, 3


@dataclass(frozen=True)
class Options:
    """How engines are run.

    Attributes
    ----------
    timeout_s
        How long one may take to convert, load or answer.
    peers_python
        The Python here that converts the models.
    folder
        Where files go.
    """

    timeout_s: float
    peers_python: Path
    folder: Path


@dataclass(frozen=True)
class Counted:
    """What came of one engine.

    Attributes
    ----------
    failure
        Why nothing was counted, or None.
    versions
        The versions of its packages.
    error
        Its largest error as a fraction of the spread of PyTorch's output.
    mix
        What one warm inference executes.
    """

    failure: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    error: float | None = None
    mix: Mix | None = None


def count_peer(
    engine: Engine, job: Job, expected: np.ndarray, board: Board, options: Options
) -> Counted:
    """Convert a model here, and run the engine's aarch64 wheel on the board.

    Counted is half of what three inferences execute beyond one, in Python from array
    to array: neither starting, loading nor what is said between processes is in it.
    """
    try:
        return _count_peer(engine, job, expected, board, options)
    except EngineError as error:
        return Counted(failure=str(error))


def _count_peer(
    engine: Engine, job: Job, expected: np.ndarray, board: Board, options: Options
) -> Counted:
    folder = options.folder / engine.module
    folder.mkdir()
    log = folder / "log"
    converter = EngineProcess(options.peers_python, "convert", job, log, options.timeout_s)
    converter.kill()
    with closing(MixCounter(folder / "counter")) as counter:
        python = board.python(folder, counter.plugin_option())
        process = EngineProcess(python, "serve", job, log, options.timeout_s)
        try:
            # An engine may have a package there that its converter brings here.
            versions = {**converter.versions, **process.versions}
            output = folder / "output.npy"
            process.ask(output=str(output))
            counted = _checked(np.load(output), expected, versions, TOLERANCES[job.dtype])
            if counted.failure is not None:
                return counted
            return replace(counted, mix=_count(process, counter))
        finally:
            process.kill()


def _count(process: EngineProcess, counter: MixCounter) -> Mix:
    def executed(calls: int) -> Mix:
        before = counter.mix_at_rest()
        process.ask(calls=calls, warm_up_s=0)
        return counter.mix_at_rest() - before

    executed(_FEW)
    return (executed(_MANY) - executed(_FEW)) // (_MANY - _FEW)


def count_ours(
    library: Path, x: np.ndarray, expected: np.ndarray, cpu: str, tolerance: float
) -> Counted:
    """Run our library on the board's native RPC server, and count the second inference."""
    versions = {name: metadata.version(name) for name in ("tvm_eff", "apache-tvm")}
    with MixDevice(ARCH, cpu) as device:
        try:
            (output,), _ = device.run(library, [x], measure=MeasureOptions())
        except Error as error:
            return Counted(failure=str(error), versions=versions)
        counted = _checked(output, expected, versions, tolerance)
        return counted if counted.failure is not None else replace(counted, mix=device.mix)


def _checked(
    output: np.ndarray,
    expected: np.ndarray,
    versions: Mapping[str, str],
    tolerance: float,
) -> Counted:
    # Some engines drop or add dimensions of extent 1 behind a pooling.
    same = output.reshape(expected.shape) if output.size == expected.size else output
    error = relative_error(same, expected)
    if error <= tolerance:
        return Counted(versions=versions, error=error)
    failure = f"wrong result: {error:.1e} of the spread off PyTorch's"
    return Counted(failure=failure, versions=versions, error=error)

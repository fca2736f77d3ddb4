"""What all engines of one comparison get: the network, its input, the expected output."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from engines.base import CALIBRATION, Engine, Job
from engines.compiled import compile_apart
from tvm_eff import models, tensors
from tvm_eff.cli.arguments import positive, seconds
from tvm_eff.errors import Error

_SEED = 7
_CALIBRATION_IMAGES = 16
_AGAIN = "what was measured is kept, so run it again, on a quiet machine"


@dataclass(frozen=True)
class Workload:
    """A network for a batch, its files in a folder.

    Attributes
    ----------
    model
        Its name in the zoo.
    shape
        The shape of the input.
    macs
        Multiply-accumulates of the whole batch.
    expected
        PyTorch's output.
    folder
        Where the engines find it.
    dtype
        What the engines compute in.
    """

    model: str
    shape: tuple[int, ...]
    macs: int
    expected: np.ndarray
    folder: Path
    dtype: str = "float32"

    def job(self, engine: Engine, cores: Sequence[int], bundle: Path | None) -> Job:
        """Return what one engine is to run."""
        cores = tuple(cores)
        return Job(
            engine.module,
            engine.packages,
            self.model,
            self.shape,
            self.folder,
            bundle,
            cores,
            self.dtype,
        )


def prepare(model: str, batch: int, folder: Path, dtype: str = "float32") -> Workload:
    """Write a network of the zoo, its input and images to quantize with to a new folder.

    Raises
    ------
    ModelError
        There is none of that name, or it cannot be traced.
    """
    shape = (batch, *models.spec(model).input_shape[1:])
    network = models.load(model, input_shapes=[shape])
    program = models.trace(network)
    inputs = tensors.random_inputs(network.inputs, _SEED)
    (expected,) = program.run(inputs)
    single = models.trace(models.load(model, input_shapes=[(1, *shape[1:])]))

    folder.mkdir(parents=True)
    job = Job("", (), model, shape, folder, None, ())
    torch.export.save(program.exported, job.program)
    torch.export.save(single.exported, job.single_program)
    np.save(job.input, inputs[0])
    seeds = range(_SEED + 1, _SEED + 1 + _CALIBRATION_IMAGES)
    images = [tensors.random_inputs(network.inputs, seed)[0] for seed in seeds]
    np.savez(job.calibration, input=np.stack(images))
    _, macs = models.count(network)
    return Workload(model, shape, macs, expected, folder, dtype)


@dataclass(frozen=True)
class Tuned:
    """Our library for a workload, or why there is none.

    Attributes
    ----------
    bundle
        Its folder, or None.
    failure
        What the compilation said instead.
    cores
        How many cores it was tuned for.
    candidates
        How many candidates were measured for it.
    seconds
        How long the compilation took.
    """

    bundle: Path | None
    failure: str | None = None
    cores: int = 0
    candidates: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class TuneOptions:
    """How much is tried for our library, as :func:`tvm_eff.compile` takes it.

    Attributes
    ----------
    trials
        Candidates to measure of each kernel, at most.
    budget
        Seconds after which no more measurements start.
    measure
        Whether anything is measured at all, or records have all the winners.
    dtype
        What the network computes in.
    """

    trials: int | None = None
    budget: float = math.inf
    measure: bool = True
    dtype: str = "float32"

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> TuneOptions:
        """Return those that a command line names, which :func:`add_tune_options` has added."""
        return cls(arguments.trials, arguments.budget, not arguments.no_measure)


def add_tune_options(parser: argparse.ArgumentParser) -> None:
    """Let a command line say how our library is tuned."""
    parser.add_argument("--logs", type=Path, help="records for our library (default: tune.py's)")
    parser.add_argument("--trials", type=positive, help="as tune.py's")
    parser.add_argument(
        "--budget", type=seconds, default=math.inf, metavar="TIME", help="as tune.py's"
    )
    parser.add_argument("--no-measure", action="store_true", help="as tune.py's")


def tune(
    workload: Workload,
    logs: Path | None,
    cores: Sequence[int],
    options: TuneOptions,
    target: str = "host",
) -> Tuned:
    """Compile our library for a workload, on the given cores alone."""
    calibrate = workload.folder / CALIBRATION if options.dtype == "int8" else None
    try:
        found = compile_apart(
            workload.model,
            cores,
            target=target,
            input_shapes=[workload.shape],
            logs=logs,
            output=workload.folder / f"dist-{options.dtype}-{len(cores)}",
            calibrate=calibrate,
            **asdict(options),
        )
    except Exception as error:
        # Whatever it is, it is one engine's failure, and hours of the others' rows are not lost.
        kind = "" if isinstance(error, Error) else f"{type(error).__name__}: "
        return Tuned(None, f"{kind}{error}"[:300])
    if options.measure and found.priors:
        return Tuned(None, f"{found.priors} of its kernels still have priors: {_AGAIN}")
    return Tuned(found.bundle, None, len(cores), found.candidates, found.seconds)

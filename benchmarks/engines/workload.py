"""What all engines of one comparison get: the network, its input, the expected output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engines.base import Engine, Job
from engines.process import BENCHMARKS
from tvm_eff import models, tensors

_SEED = 7


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
    """

    model: str
    shape: tuple[int, ...]
    macs: int
    expected: np.ndarray
    folder: Path

    def job(self, engine: Engine, cores: Sequence[int], bundle: Path | None) -> Job:
        """Return what one engine is to run."""
        cores = tuple(cores)
        return Job(
            engine.module, engine.packages, self.model, self.shape, self.folder, bundle, cores
        )


def prepare(model: str, batch: int, folder: Path) -> Workload:
    """Write a network of the zoo and its input to a new folder.

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
    _, macs = models.count(network)
    return Workload(model, shape, macs, expected, folder)


@dataclass(frozen=True)
class Tuned:
    """Our library for a workload, or why there is none.

    Attributes
    ----------
    bundle
        Its folder, or None.
    failure
        What the command said instead.
    cores
        How many cores it was tuned for.
    candidates
        How many candidates were measured for it.
    seconds
        How long the command took.
    """

    bundle: Path | None
    failure: str | None = None
    cores: int = 0
    candidates: int = 0
    seconds: float = 0.0


def tune(
    workload: Workload,
    logs: Path | None,
    cores: Sequence[int],
    arguments: Sequence[str],
    target: str = "host",
) -> Tuned:
    """Run the user's command for a workload, on the given cores alone."""
    output = workload.folder / f"dist-{len(cores)}"
    command = [sys.executable, "scripts/tune.py", "--target", target, "--model", workload.model]
    command += ["--input-shape", ",".join(map(str, workload.shape))]
    command += ["--output", str(output), "--json", *arguments]
    command += ["--logs", str(logs.resolve())] if logs is not None else []
    done = subprocess.run(
        command,
        cwd=BENCHMARKS.parent,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return Tuned(None, f"tune.py: {lines[-1] if lines else done.returncode}"[:300])
    result = json.loads(done.stdout.splitlines()[-1])
    bundle = (BENCHMARKS.parent / result["bundle"]).resolve()
    return Tuned(bundle, None, len(cores), result["candidates"], result["seconds"])

"""Kernels of small networks, and a bench that builds and runs their candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import tvm
from torch import nn

from tvm_eff import frontend, passes, schedules, targets, tune
from tvm_eff.device import Device
from tvm_eff.passes import RelaxNetwork
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.targets import Target
from tvm_eff.tensors import relative_error
from tvm_eff.tune import Task, worker
from tvm_eff.tune.builder import Builder
from tvm_eff.tune.checker import kernel_inputs
from tvm_eff.tune.worker import BuildJob

HOST = targets.load("host")


def lowered(model: nn.Module, *shapes: Sequence[int], target: Target = HOST) -> RelaxNetwork:
    """Return a network lowered to fused kernels."""
    return passes.lower(_imported(model.eval(), tuple(map(tuple, shapes))), target)


@lru_cache(maxsize=256)
def _imported(model: nn.Module, shapes: tuple[tuple[int, ...], ...]) -> RelaxNetwork:
    """Import a module once for all targets: to trace it takes longer than to lower it."""
    return frontend.import_model(model, [torch.zeros(*shape) for shape in shapes])


_reference = lru_cache(maxsize=256)(worker.reference)


def tasks_of(model: nn.Module, *shapes: Sequence[int], target: Target = HOST) -> list[Task]:
    """Return the kernels of a network, most operations first."""
    return tune.extract(lowered(model, *shapes, target=target).mod)


def varied(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """Return so many candidates of as many rules as there are, the most promising ones first."""
    of_rule: Counter[str] = Counter()
    places = []
    for candidate in candidates:
        places.append(of_rule[candidate.rule])
        of_rule[candidate.rule] += 1
    order = sorted(range(len(places)), key=places.__getitem__)
    return [candidates[place] for place in order[:count]]


@lru_cache(maxsize=1)
def small_convolution() -> Task:
    """Return a fast convolution with bias and ReLU that only one rule matches."""
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU())
    return next(t for t in tasks_of(model, (1, 8, 12, 12)) if analysis.contraction(t.func))


@dataclass(frozen=True)
class Bench:
    """Builds candidates in the tuner's own workers and runs them on a device.

    Attributes
    ----------
    builder
        Builds the candidates.
    device
        Runs them.
    target
        The target of code generation; schedules may be of another target.
    folder
        The folder of the libraries.
    """

    builder: Builder
    device: Device
    target: Target
    folder: Path

    def errors(self, task: Task, candidates: Sequence[Candidate], target: Target) -> list[float]:
        """Return each candidate's error against the unscheduled kernel."""
        libraries = self._build(task, candidates, target)
        module = tvm.ir.save_json(task.module)
        expected = _reference(module, task.inputs, task.outputs)
        inputs = kernel_inputs(task.inputs)
        found = []
        for candidate, library in zip(candidates, libraries, strict=True):
            packed = schedules.pack_inputs(schedules.packings(task.func, candidate), inputs)
            outputs, _ = self.device.call(library, "main", packed, task.outputs)
            pairs = zip(outputs, expected, strict=True)
            found.append(max(relative_error(actual, wanted) for actual, wanted in pairs))
        return found

    def _build(self, task: Task, candidates: Sequence[Candidate], target: Target) -> list[Path]:
        jobs = [
            self.builder.submit(
                _build_scheduled_for,
                BuildJob(
                    tvm.ir.save_json(task.module),
                    candidate,
                    self.target,
                    self.folder / f"{number}.so",
                ),
                target,
            )
            for number, candidate in enumerate(candidates)
        ]
        return [job.result() for job in jobs]


def _build_scheduled_for(job: BuildJob, scheduled_for: Target) -> Path:
    """Build a candidate of one target's design space for another target."""
    from tvm_eff.codegen import build_kernel

    func = tvm.ir.load_json(job.module)["main"]
    build_kernel(schedules.apply(func, job.candidate, scheduled_for), job.target, job.library)
    return job.library

"""Layers as their first candidates compute them, on boards that need not have records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from loops.aarch64 import Loop, hot_loops
from loops.kernels import tasks_of
from loops.mca import Cycles, analyze
from tvm_eff import models, schedules
from tvm_eff.codegen import compile_kernel
from tvm_eff.targets import Target
from tvm_eff.tensors import TensorSpec
from tvm_eff.tune import Task

CANDIDATES = 3
"""How many of a layer's first candidates are built; the one with the fewest cycles counts."""


@dataclass(frozen=True)
class Layer:
    """A layer that networks have.

    Attributes
    ----------
    label
        What it is, for people.
    module
        It, with random weights.
    shape
        The shape of its input.
    """

    label: str
    module: nn.Module
    shape: tuple[int, ...]


@dataclass(frozen=True)
class LayerLoop:
    """The innermost loop of a layer.

    Attributes
    ----------
    layer
        The layer's label.
    target
        The board's name.
    cpu
        Its processor.
    dtype
        What the layer computes in.
    candidate
        Its schedule.
    loop
        Its loop with the most products.
    cycles
        What that takes by the processor's model.
    """

    layer: str
    target: str
    cpu: str
    dtype: str
    candidate: str
    loop: Loop
    cycles: Cycles

    @property
    def cycles_per_product(self) -> float:
        """Cycles for each multiply-add of two numbers."""
        return self.cycles.iteration / self.loop.products


def layers() -> tuple[Layer, ...]:
    """Return one layer of each kind that takes most of a network's time."""
    return (
        Layer("1x1, 512 to 512 channels, 14x14", nn.Conv2d(512, 512, 1), (1, 512, 14, 14)),
        Layer("3x3, 64 to 256 channels, 13x13", nn.Conv2d(64, 256, 3, padding=1), (1, 64, 13, 13)),
        Layer(
            "3x3 of an image, to 32 channels",
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            (1, 3, 224, 224),
        ),
        Layer("dense, 1024 to 1000", nn.Linear(1024, 1000), (1, 1024)),
    )


def dtypes_of(target: Target) -> tuple[str, ...]:
    """Return what a board's processor computes in."""
    return ("float32", "float16", "int8") if target.float16 else ("float32", "int8")


def layer_loops(found: Sequence[Layer], targets: Sequence[Target]) -> Iterator[LayerLoop]:
    """Return the loop of each layer on each board, in each dtype that it computes in."""
    for layer in found:
        spec = TensorSpec(layer.shape, "float32")
        program = models.trace(models.of_module(layer.module.eval(), (spec,), name=layer.label))
        for target in targets:
            for dtype in dtypes_of(target):
                task, *_ = tasks_of(program, target, dtype)
                loops = _candidates(layer, task, target, dtype)
                yield min(loops, key=lambda each: each.cycles_per_product)


def _candidates(layer: Layer, task: Task, target: Target, dtype: str) -> Iterator[LayerLoop]:
    """Build the first candidates; Winograd's and Strassen's multiply fewer numbers."""
    triple, cpu = target.tvm["mtriple"], target.tvm["mcpu"]
    direct = [
        each
        for each in schedules.candidates(task.func, target)
        if not schedules.transforms_weight(each)
    ]
    for candidate in direct[:CANDIDATES]:
        built = compile_kernel(schedules.apply(task.func, candidate, target), target)
        loop, *_ = hot_loops(str(built.inspect_source("asm")))
        cycles = analyze(loop.body, triple, cpu)
        yield LayerLoop(layer.label, target.name, cpu, dtype, str(candidate), loop, cycles)

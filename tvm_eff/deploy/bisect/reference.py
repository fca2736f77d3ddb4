"""What each kernel of a network should compute: the kernels as lowered, without any schedule.

They are compiled for this machine by TVM's own passes, none of ours, with the model's own
weights. Every kernel is fed with what the reference computed before it, so that the first one
that differs is the one that is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError
from tvm.tirx import PrimFunc

from tvm_eff import targets
from tvm_eff.deploy.bisect.executable import interpret
from tvm_eff.deploy.unscheduled import quicken
from tvm_eff.passes import RelaxNetwork, pipeline
from tvm_eff.tune.task import Task


@dataclass(frozen=True)
class KernelCall:
    """A kernel at its place in the network.

    Attributes
    ----------
    task
        The kernel as lowered.
    inputs
        What it reads, weights as lowered among it.
    outputs
        What it should write.
    written
        Where in each output: a kernel may write a slice of it and leave the rest.
    sources
        For each input the calls that wrote it, by their places in the network: several for a
        concatenation, none for weights.
    function
        The kernel as compiled without a schedule.
    """

    task: Task
    inputs: list[np.ndarray] = field(repr=False)
    outputs: list[np.ndarray] = field(repr=False)
    written: list[np.ndarray] = field(repr=False)
    sources: tuple[tuple[int, ...], ...]
    function: Any = field(repr=False)

    @property
    def slice(self) -> tuple[slice, ...]:
        """What it writes of its first output."""
        where = np.nonzero(self.written[0])
        return tuple(slice(int(each.min()), int(each.max()) + 1) for each in where if each.size)

    @property
    def is_reshape(self) -> bool:
        """Whether it moves nothing: scheduled, it may be a view in the library, and no kernel."""
        sch = Schedule(self.task.func)
        try:
            for block in sch.get_child_blocks(sch.get_sblock("root"))[:-1]:
                sch.compute_inline(block)
        except ScheduleError:
            return False
        return bool(relax.analysis.has_reshape_pattern(sch.mod["main"]))

    def recomputed(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what the kernel as lowered writes for other inputs."""
        return _computed(self.function, inputs, self.outputs)[0]


@dataclass(frozen=True)
class Reference:
    """A network's kernels in the order of their calls, and its outputs."""

    calls: list[KernelCall]
    outputs: list[np.ndarray]


def run_reference(network: RelaxNetwork, inputs: Sequence[np.ndarray]) -> Reference:
    """Run a lowered network on this machine, kernel by kernel, without any schedule."""
    mod = pipeline.pack_weights(network.mod, network.params)
    tasks = {
        str(variable.name_hint): Task(str(variable.name_hint), func)
        for variable, func in mod.functions_items()
        if isinstance(func, PrimFunc)
    }
    quicken(mod)
    # Checks of arguments would be most of what LLVM compiles.
    unchecked = pipeline.pass_context(config={"tirx.disable_assert": True})
    with pipeline.not_dumping(), unchecked:
        executable = relax.build(mod, target=targets.load("host").tvm_target())
    calls: list[KernelCall] = []
    writers: dict[int, tuple[int, ...]] = {}

    def execute(name: str, function: Any, arguments: Sequence[Any]) -> None:
        task = tasks[name]
        count = len(arguments) - len(task.outputs)
        given, filled = arguments[:count], arguments[count:]
        arrays = [each.numpy() for each in given]
        outputs, written = _computed(function, arrays, [each.numpy() for each in filled])
        fill(filled, outputs, written)
        sources = tuple(writers.get(each.data_ptr(), ()) for each in given)
        for each, where in zip(filled, written, strict=True):
            before = () if where.all() else writers.get(each.data_ptr(), ())
            writers[each.data_ptr()] = (*before, len(calls))
        calls.append(KernelCall(task, arrays, outputs, written, sources, function))

    return Reference(calls, interpret(executable, inputs, execute))


def fill(
    tensors: Sequence[Any], outputs: Sequence[np.ndarray], written: Sequence[np.ndarray]
) -> None:
    """Put into tensors of a virtual machine what a kernel writes, and leave the rest."""
    for tensor, output, where in zip(tensors, outputs, written, strict=True):
        tensor.copyfrom(np.where(where, output, tensor.numpy()))


def _computed(
    function: Any, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return what a function writes, and where; `outputs` say the shapes and dtypes only."""
    given = [tvm.runtime.tensor(each) for each in inputs]
    found = _called(function, given, outputs, 0xFF)
    written = [_differs(each, 0xFF) for each in found]
    if not all(each.all() for each in written):
        # What looks unwritten may be a value, -1 say; it is not two of them.
        again = _called(function, given, outputs, 0x55)
        written = [a | _differs(b, 0x55) for a, b in zip(written, again, strict=True)]
    return found, written


def _called(
    function: Any, given: Sequence[Any], outputs: Sequence[np.ndarray], byte: int
) -> list[np.ndarray]:
    blank = [np.full(each.nbytes, byte, "uint8").view(each.dtype) for each in outputs]
    tensors = [
        tvm.runtime.tensor(flat.reshape(each.shape))
        for flat, each in zip(blank, outputs, strict=True)
    ]
    function(*given, *tensors)
    return [each.numpy() for each in tensors]


def _differs(array: np.ndarray, byte: int) -> np.ndarray:
    """Where an array has other bytes than one that nobody wrote to."""
    values = np.ascontiguousarray(array).reshape(-1).view("uint8")
    return (values.reshape(array.size, -1) != byte).any(axis=1).reshape(array.shape)

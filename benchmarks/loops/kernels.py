"""The kernels of a network as its library has them, in assembly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tvm_eff import frontend, models, passes, quantize, schedules, tune
from tvm_eff.codegen import compile_kernel
from tvm_eff.device import EmulatedDevice
from tvm_eff.errors import RecordError
from tvm_eff.targets import Target


@dataclass(frozen=True)
class Kernel:
    """A kernel of a network.

    Attributes
    ----------
    label
        What it computes, for people.
    calls
        How often an inference calls it.
    cost
        What one call cost when its schedule won, in the unit of the records.
    assembly
        All its functions; None if no schedule is recorded.
    """

    label: str
    calls: int
    cost: float | None
    assembly: str | None


def tasks_of(program: models.Program, target: Target, dtype: str) -> list[tune.Task]:
    """Return the kernels of a network in a dtype, most operations first."""
    if dtype == "int8":
        program = quantize.quantize(program, None, None, "int8").program
    core = frontend.decompose(program)
    return tune.extract(passes.lower(frontend.import_program(program, core), target, dtype).mod)


def kernels(model: str, target: Target, logs: Path, dtype: str = "float32") -> Iterator[Kernel]:
    """Build each distinct kernel of a network with the schedule that won, the most work first.

    Parameters
    ----------
    model
        A network of the zoo.
    target
        The board.
    logs
        The folder of records.
    dtype
        What the network computes in; for int8 it is quantized on random inputs.

    Raises
    ------
    RecordError
        No kernel has one.
    """
    assert target.emulator is not None, "its code is read, and its records are instructions"
    board = EmulatedDevice(target.emulator.arch, target.emulator.cpu)
    records = tune.RecordStore.of(logs, target, board)
    tasks = tasks_of(models.trace(models.load(model)), target, dtype)
    winners = [records.best(task.workload) for task in tasks]
    if not any(winners):
        raise RecordError(
            f"{records.folder} has no record of a kernel of {model}; tune it first: "
            f"python scripts/tune.py --target {target.name} --model {model} --dtype {dtype} "
            f"--logs {logs}"
        )
    for task, winner in zip(tasks, winners, strict=True):
        if winner is None:
            yield Kernel(task.label, task.calls, None, None)
            continue
        schedule = schedules.apply(task.func, winner.candidate, target)
        assembly = str(compile_kernel(schedule, target).inspect_source("asm"))
        yield Kernel(task.label, task.calls, winner.value, assembly)

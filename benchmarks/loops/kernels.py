"""The kernels of a network as its library has them, in assembly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import tvm
from tvm.s_tir import meta_schedule as ms

from tvm_eff import frontend, models, passes, schedules, tune
from tvm_eff.codegen import compile_kernel
from tvm_eff.errors import RecordError
from tvm_eff.targets import Target
from tvm_eff.tune import Task


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


def kernels(model: str, target: Target, logs: Path) -> Iterator[Kernel]:
    """Build each distinct kernel of a network with the schedule that won, the most work first.

    Raises
    ------
    RecordError
        No kernel has one.
    """
    records = tune.RecordStore(logs, target, "instructions")
    network = models.load(model)
    lowered = passes.lower(frontend.import_program(models.trace(network)), target)
    tasks = tune.extract(lowered.mod)
    winners = [_winner(task, records.database, target) for task in tasks]
    if not any(winners):
        raise RecordError(
            f"{records.folder} has no record of a kernel of {model}; tune it first: "
            f"python scripts/tune.py --target {target.name} --model {model} --logs {logs}"
        )
    for task, winner in zip(tasks, winners, strict=True):
        if winner is None:
            yield Kernel(task.label, task.calls, None, None)
            continue
        cost = float(winner.run_secs[0])
        yield Kernel(task.label, task.calls, cost, _assembly(task, winner, target))


def _winner(task: Task, database: ms.Database, target: Target) -> ms.database.TuningRecord | None:
    """The best record of a kernel, or of a function of the same result, as a library has it."""
    functions = [task.func, *(each.func for each in schedules.alternatives(task.func))]
    found = [
        database.query_tuning_record(replace(task, func=func).module, target.tvm_target(), "main")
        for func in functions
    ]
    known = [record for record in found if record is not None]
    return min(known, key=lambda record: float(record.run_secs[0]), default=None)


def _assembly(task: Task, winner: ms.database.TuningRecord, target: Target) -> str:
    schedule = tvm.s_tir.Schedule(winner.workload.mod)
    winner.trace.apply_to_schedule(schedule, remove_postproc=False)
    return str(compile_kernel(schedule, target).inspect_source("asm"))

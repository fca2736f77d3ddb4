"""Records made up for tests, and schedules chosen without any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernels import HOST

from tvm_eff import schedules, tune
from tvm_eff.device import MachineIdentity, Unit
from tvm_eff.passes import RelaxNetwork
from tvm_eff.schedules import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune import Record, RecordStore, Task
from tvm_eff.tune.records.generation import generation_of

HERE = MachineIdentity("Linux x86_64", "A processor", "maker", "1", "2", "3", "avx", threads=2)
"""A machine that tests take themselves to run on."""


def most_promising(network: RelaxNetwork, target: Target) -> dict[str, Candidate]:
    """Return the first candidate of every kernel of a lowered network."""
    return {
        task.workload: next(iter(schedules.candidates(task.func, target)), schedules.UNSCHEDULED)
        for task in tune.extract(network.mod)
    }


def measured(
    task: Task,
    candidate: Candidate,
    *values: float,
    machine: MachineIdentity = HERE,
    unit: Unit = "seconds",
    failure: str | None = None,
    **changed: Any,
) -> Record:
    """Return a record of a candidate, as today's code measures it."""
    fields: dict[str, Any] = {
        "workload": task.workload,
        "task": task.name,
        "candidate": candidate,
        "unit": unit,
        "values": () if failure else values,
        "machine": machine,
        "generation": generation_of(schedules.UNSCHEDULED, HOST)
        if not schedules.is_known(candidate)
        else generation_of(candidate, HOST),
        "failure": failure,
        "error": None if failure else 1e-7,
    }
    return Record(**{**fields, **changed})


def opened(
    folder: Path, machine: MachineIdentity | None = HERE, unit: Unit = "seconds"
) -> RecordStore:
    """Return the records of the host target in a folder, as a machine sees them."""
    return RecordStore(folder, HOST, unit, machine)


def add(store: RecordStore, *records: Record) -> RecordStore:
    """Add records to a store and return it."""
    for record in records:
        store.add(record)
    return store


def candidates_of(store: RecordStore, task: Task, plan: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates of a plan that this machine has on record."""
    return [each for each in plan if store.find(task.workload, each) is not None]

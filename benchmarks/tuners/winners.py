"""The winners of two tuners on one kernel: checked, then measured in turns by one measurer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm.s_tir import meta_schedule as ms

from tuners.search import LOGS
from tvm_eff import schedules, tensors
from tvm_eff.codegen import build_kernel
from tvm_eff.codegen.compile import KERNEL
from tvm_eff.device import Device, MeasureOptions
from tvm_eff.targets import Target
from tvm_eff.tensors import TensorSpec
from tvm_eff.tune import RecordStore, Task, worker
from tvm_eff.tune.records import json_lines

_OPTIONS = MeasureOptions(repeat=3, min_repeat_ms=10.0)


@dataclass(frozen=True)
class Winner:
    """A built winner: its library, inputs in the layout it wants, and its error."""

    library: Path
    inputs: list[np.ndarray]
    error: float


def _ours(task: Task, target: Target, device: Device, folder: Path) -> Winner | None:
    """Return the best of our records in a folder, or None if there is none."""
    best = RecordStore.of(folder / LOGS, target, device).best(task.workload)
    if best is None:
        return None
    library = folder / f"{task.name}.so"
    build_kernel(schedules.apply(task.func, best.candidate, target), target, library)
    inputs = tensors.random_inputs(task.inputs)
    packed = schedules.pack_inputs(schedules.packings(task.func, best.candidate), inputs)
    outputs, _ = device.call(library, KERNEL, packed, task.outputs)
    return Winner(library, packed, _error(task, outputs))


def _stock(task: Task, target: Target, device: Device, folder: Path) -> Winner | None:
    """Return the best of MetaSchedule's database in a folder, or None if there is none."""
    paths = [folder / LOGS / f"database_{name}.json" for name in ("workload", "tuning_record")]
    if not all(path.exists() for path in paths):
        return None
    for path in paths:
        json_lines.repair(path)  # it was killed, perhaps while it wrote
    database = ms.database.JSONDatabase(*map(str, paths))
    sch = database.query_schedule(task.module, target.tvm_target(), "main")
    if sch is None:
        return None
    # With its repacking of weights inside it takes the inputs as they are, and can be checked.
    whole, library = folder / f"{task.name}-whole.so", folder / f"{task.name}.so"
    tvm.tirx.build(sch.mod, target=target.tvm_target()).export_library(str(whole))
    outputs, _ = device.call(whole, KERNEL, tensors.random_inputs(task.inputs), task.outputs)
    build_kernel(sch, target, library)
    inputs = tensors.random_inputs(_packed(task, sch))
    return Winner(library, inputs, _error(task, outputs))


def _packed(task: Task, sch: tvm.s_tir.Schedule) -> tuple[TensorSpec, ...]:
    mod = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(sch.mod)
    return Task("main", mod["main"]).parameters[: len(task.inputs)]


def _error(task: Task, outputs: list[np.ndarray]) -> float:
    expected = worker.reference(tvm.ir.save_json(task.module), task.inputs, task.outputs)
    pairs = zip(outputs, expected, strict=True)
    return max(tensors.relative_error(actual, right) for actual, right in pairs)


def compare(
    task: Task, target: Target, device: Device, folders: Mapping[str, Path], rounds: int
) -> dict[str, dict[str, float | None]]:
    """Return error and median seconds of each tuner's winner; no seconds if it is wrong."""
    made = {
        tuner: _MAKERS[tuner](task, target, device, folder) for tuner, folder in folders.items()
    }
    built = {tuner: winner for tuner, winner in made.items() if winner is not None}
    seconds = _side_by_side(task, device, built, rounds)
    return {
        tuner: {"error": winner.error, "seconds": seconds.get(tuner)}
        for tuner, winner in built.items()
    }


def _side_by_side(
    task: Task, device: Device, winners: Mapping[str, Winner], rounds: int
) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, winner in winners.items():
            if not winner.error <= tensors.TOLERANCE:
                continue
            _, found = device.call(
                winner.library, KERNEL, winner.inputs, task.outputs, measure=_OPTIONS
            )
            assert found is not None, "a measurement was asked for"
            seconds.setdefault(name, []).append(found.median)
    return {name: float(np.median(values)) for name, values in seconds.items()}


_MAKERS = {"tvm_eff": _ours, "MetaSchedule": _stock}

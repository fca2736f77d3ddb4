"""The kernels of a network on this machine: alone with warm caches, and in the network."""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.runtime.vm import VirtualMachine

from roofline.network import Network
from tvm_eff import tensors
from tvm_eff.schedules import analysis
from tvm_eff.tune import RecordStore, Task

BESIDE = "beside the kernels"
"""The row of what is no kernel's."""

TURN = 10
"""Inferences in a row of the library as it is, and then of that which is listened to."""

WARM_UP = 3
"""Inferences before those of a turn."""


def rows(network: Network, store: RecordStore, runs: int) -> list[dict[str, Any]]:
    """Return each kernel's seconds, all its calls in one inference together.

    The last row is what the whole library takes beside them when nobody listens.

    Parameters
    ----------
    network
        What is timed.
    store
        The winners on record, and what they took alone.
    runs
        How many inferences are profiled.
    """
    workloads = {
        var.name_hint: Task(var.name_hint, func).workload
        for var, func in network.lowered.mod.functions_items()
        if isinstance(func, tvm.tirx.PrimFunc)
    }
    with tempfile.TemporaryDirectory(prefix="layers-") as name:
        library = network.build(store, Path(name))
        in_place, latency = _profile(library, network.inputs(), runs)
    seconds: dict[str, float] = defaultdict(float)
    for kernel, value in in_place.items():
        # Kernels with packed weights are renamed, and so is what takes a kernel's place.
        own = re.sub(r"_(winograd|strassen)\w*$", "", kernel.removesuffix("_prepacked"))
        seconds[workloads.get(own, kernel)] += value
    known = {task.workload for task in network.tasks}
    found = [_row(task, store, seconds.get(task.workload)) for task in network.tasks]
    beside = latency - sum(value for name, value in seconds.items() if name in known)
    return [*found, {"kernel": BESIDE, "calls": 1, "in_network_s": max(0.0, beside)}]


def _row(task: Task, store: RecordStore, in_network: float | None) -> dict[str, Any]:
    best = store.best(task.workload)
    assert best is not None, "looked up before"
    moved = sum(_bytes(p) for p in task.parameters)
    return {
        "kernel": task.label,
        "calls": task.calls,
        "rule": best.candidate.rule,
        "alone_s": best.value * task.calls,
        "in_network_s": in_network,
        "macs": macs(task) * task.calls,
        "bytes": moved * task.calls,
    }


def macs(task: Task) -> int:
    """Return the multiply-adds of the direct computation of one call."""
    return analysis.multiply_adds(task.func)


def _bytes(spec: tensors.TensorSpec) -> int:
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize


def _profile(library: Path, inputs: list[np.ndarray], runs: int) -> tuple[dict[str, float], float]:
    """Return the median seconds of an inference in each function, by its name, and of all of it.

    Listening takes a microsecond a call. That is taken off: what the cheapest function takes,
    one of the virtual machine's that returns a constant or looks at a shape.
    """
    machine = VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    tensors = [tvm.runtime.tensor(array) for array in inputs]
    for _ in range(10):
        machine["main"](*tensors)
    started = [0.0]
    now: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)

    def instrument(func: Any, name: str, before: bool, ret: Any, *args: Any) -> None:
        if before:
            started[0] = time.perf_counter()
        else:
            now[str(name)] += time.perf_counter() - started[0]
            calls[str(name)] += 1

    listened = VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    listened.set_instrument(instrument)
    every: dict[str, list[float]] = defaultdict(list)
    whole: list[float] = []
    for run in range(0, runs, TURN):
        # Each has weights of its own, and finds the other's in the caches.
        for _ in range(WARM_UP):
            machine["main"](*tensors)
        whole += [_seconds(machine, tensors) for _ in range(min(TURN, runs - run))]
        for turn in range(-WARM_UP, min(TURN, runs - run)):
            now.clear()
            calls.clear()
            listened["main"](*tensors)
            if turn >= 0:
                for name, value in now.items():
                    every[name].append(value)
    medians = {name: float(np.median(values)) for name, values in every.items()}
    listening = min(medians[name] / calls[name] for name in medians)
    in_each = {name: value - calls[name] * listening for name, value in medians.items()}
    return in_each, float(np.median(whole))


def _seconds(machine: VirtualMachine, tensors: list[Any]) -> float:
    start = time.perf_counter()
    machine["main"](*tensors)
    return time.perf_counter() - start

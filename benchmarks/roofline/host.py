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
from tvm_eff import numerics
from tvm_eff.space import structure
from tvm_eff.tune import RecordStore, Task


def rows(network: Network, store: RecordStore, runs: int) -> list[dict[str, Any]]:
    """Return each kernel's seconds, all its calls in one inference together.

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
        in_place = _profile(library, network.inputs(), runs)
    seconds: dict[str, float] = defaultdict(float)
    for kernel, value in in_place.items():
        # Kernels with packed weights are renamed, and so is what takes a kernel's place.
        own = re.sub(r"_(winograd|strassen)\w*$", "", kernel.removesuffix("_prepacked"))
        seconds[workloads.get(own, kernel)] += value
    known = {task.workload for task in network.tasks}
    found = [_row(task, store, seconds.get(task.workload)) for task in network.tasks]
    others = {name: value for name, value in seconds.items() if name not in known}
    return found + [{"kernel": name, "calls": 1, "in_network_s": v} for name, v in others.items()]


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
    return structure.multiply_adds(task.func)


def _bytes(spec: numerics.TensorSpec) -> int:
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize


def _profile(library: Path, inputs: list[np.ndarray], runs: int) -> dict[str, float]:
    """Return the median seconds an inference spends in each function, by its name."""
    machine = VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    tensors = [tvm.runtime.tensor(array) for array in inputs]
    for _ in range(10):
        machine["main"](*tensors)
    started = [0.0]
    now: dict[str, float] = defaultdict(float)

    def instrument(func: Any, name: str, before: bool, ret: Any, *args: Any) -> None:
        if before:
            started[0] = time.perf_counter()
        else:
            now[str(name)] += time.perf_counter() - started[0]

    machine.set_instrument(instrument)
    every: dict[str, list[float]] = defaultdict(list)
    for _ in range(runs):
        now.clear()
        machine["main"](*tensors)
        for name, value in now.items():
            every[name].append(value)
    return {name: float(np.median(values)) for name, values in every.items()}

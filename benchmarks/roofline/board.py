"""The kernels of a network on an emulated 64-bit Arm board: what one inference executes."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tvm
from engines.arm_mix import Mix, MixDevice
from tvm import te

from roofline.host import BESIDE, macs
from roofline.network import Network
from tvm_eff import schedules, tensors
from tvm_eff.codegen import build_kernel
from tvm_eff.codegen.compile import KERNEL
from tvm_eff.device import MeasureOptions
from tvm_eff.targets import Target
from tvm_eff.tensors import TensorSpec
from tvm_eff.tune import RecordStore, Task


def rows(network: Network, store: RecordStore, device: MixDevice) -> list[dict[str, Any]]:
    """Return each kernel's instructions, all its calls in one inference together.

    What it takes to call one on the board is taken off. The last row is what the whole
    library executes beside them, give or take a thousand instructions a call.
    """
    with tempfile.TemporaryDirectory(prefix="layers-") as name:
        folder = Path(name)
        call = _empty_call(network.target, device, folder)
        found = [_row(task, network, store, device, call, folder) for task in network.tasks]
        device.run(network.build(store, folder), network.inputs(), measure=MeasureOptions())
        whole = _mix(device)
    return [*found, _rest(whole, found)]


def _row(
    task: Task,
    network: Network,
    store: RecordStore,
    device: MixDevice,
    empty: Mix,
    folder: Path,
) -> dict[str, Any]:
    best = store.best(task.workload)
    assert best is not None, "looked up before"
    library = folder / "kernel.so"
    build_kernel(
        schedules.apply(task.func, best.candidate, network.target), network.target, library
    )
    packings = schedules.packings(task.func, best.candidate)
    inputs = schedules.pack_inputs(packings, tensors.random_inputs(task.inputs))
    device.call(library, KERNEL, inputs, task.outputs, measure=MeasureOptions())
    return {
        "kernel": task.label,
        "calls": task.calls,
        "rule": best.candidate.rule,
        "macs": macs(task) * task.calls,
        **{name: value * task.calls for name, value in asdict(_mix(device) - empty).items()},
    }


def _empty_call(target: Target, device: MixDevice, folder: Path) -> Mix:
    """Return what it takes to call a kernel on the board, by one that copies a single value."""
    value = te.placeholder((1,), name="value")
    func = te.create_prim_func([value, te.compute((1,), lambda i: value[i], name="copy")])
    module = tvm.IRModule({KERNEL: func.with_attr("global_symbol", KERNEL)})
    library = folder / "empty.so"
    build_kernel(tvm.s_tir.Schedule(module), target, library)
    one = TensorSpec((1,), "float32")
    device.call(library, KERNEL, tensors.random_inputs([one]), [one], measure=MeasureOptions())
    return _mix(device)


def _rest(whole: Mix, found: list[dict[str, Any]]) -> dict[str, Any]:
    rest = {name: value - sum(row[name] for row in found) for name, value in asdict(whole).items()}
    return {"kernel": BESIDE, "calls": 1, "macs": 0, **rest}


def _mix(device: MixDevice) -> Mix:
    assert device.mix is not None, "a measurement was asked for"
    return device.mix

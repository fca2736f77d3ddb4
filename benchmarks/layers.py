"""A roofline by kernel on this machine: alone with warm caches, and in the network.

    python benchmarks/layers.py --model squeezenet1_1 mobilenet

Takes the winners that are on record, so tune the model first (scripts/tune.py).
In the network means timed in place, call by call, in the whole library. Results go to
layers-host.json and layers-host.md in --output; nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import tempfile
import time
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

# TVM would take half of them, and reads this once.
os.environ.setdefault("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))

import numpy as np
import tvm
from engines.peak import Peak
from tvm.runtime.vm import VirtualMachine

from tvm_eff import flow, frontend, models, numerics, targets
from tvm_eff.cli._arguments import positive
from tvm_eff.cli._run import run
from tvm_eff.deploy.library import build_library
from tvm_eff.device.local import processor
from tvm_eff.errors import RecordError
from tvm_eff.space import structure
from tvm_eff.tune import RecordStore, Task, extract

BENCHMARKS = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> int:
    """Write the roofline of the models that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    for model in arguments.model:
        models.spec(model)
    target = targets.load("host")
    store = RecordStore(arguments.logs or flow.default_logs(target), target, "seconds")
    arguments.output.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "machine": processor(),
        "threads": int(os.environ["TVM_NUM_THREADS"]),
        "date": date.today().isoformat(),
        "peak_gflops": Peak().measure(sorted(os.sched_getaffinity(0))) / 1e9,
        "models": {name: _kernels(name, target, store, arguments.runs) for name in arguments.model},
    }
    (arguments.output / "layers-host.json").write_text(json.dumps(result, indent=1) + "\n")
    text = _markdown(result)
    (arguments.output / "layers-host.md").write_text(text)
    print(text)
    return 0


def _kernels(
    model: str, target: targets.Target, store: RecordStore, runs: int
) -> list[dict[str, Any]]:
    program = models.trace(models.load(model))
    lowered = frontend.lower(frontend.import_program(program), target)
    tasks = extract(lowered.mod)
    missing = [task.label for task in tasks if store.best(task.workload) is None]
    if missing:
        raise RecordError(
            f"{store.folder} has no record of {len(missing)} kernels of {model}, such as "
            f"{missing[0]}; run: python scripts/tune.py --target host --model {model}"
        )
    workloads = {
        var.name_hint: Task(var.name_hint, func).workload
        for var, func in lowered.mod.functions_items()
        if isinstance(func, tvm.tirx.PrimFunc)
    }
    with tempfile.TemporaryDirectory(prefix="layers-") as name:
        library = Path(name) / "model.so"
        build_library(lowered, tasks, store.database, target, library)
        inputs = numerics.random_inputs(program.network.inputs)
        in_place = _profile(library, inputs, runs)
    seconds: dict[str, float] = defaultdict(float)
    for kernel, value in in_place.items():
        # Kernels with packed weights are renamed, and so is what takes a kernel's place.
        own = re.sub(r"_winograd\d+$", "", kernel.removesuffix("_prepacked"))
        seconds[workloads.get(own, kernel)] += value
    known = {task.workload for task in tasks}
    rows = [_row(task, store, seconds.get(task.workload)) for task in tasks]
    others = {name: value for name, value in seconds.items() if name not in known}
    return rows + [{"kernel": name, "calls": 1, "in_network_s": v} for name, v in others.items()]


def _row(task: Task, store: RecordStore, in_network: float | None) -> dict[str, Any]:
    work = structure.contraction(task.func)
    best = store.best(task.workload)
    assert best is not None, "looked up before"
    moved = sum(math.prod(p.shape) * np.dtype(p.dtype).itemsize for p in task.parameters)
    return {
        "kernel": task.label,
        "calls": task.calls,
        "alone_s": best.value * task.calls,
        "in_network_s": in_network,
        "macs": math.prod(work.extents) * task.calls if work is not None else 0,
        "bytes": moved * task.calls,
    }


def _profile(library: Path, inputs: list[np.ndarray], runs: int) -> dict[str, float]:
    """Return the median seconds an inference spends in each function, by its name."""
    machine = VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    tensors = [tvm.runtime.tensor(array) for array in inputs]
    for _ in range(10):
        machine["main"](*tensors)
    started, now = [0.0], defaultdict(float)

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


def _markdown(result: dict[str, Any]) -> str:
    peak = result["peak_gflops"]
    lines = [
        f"{result['machine']}, {result['threads']} threads, {result['date']}; "
        f"measured peak {peak:.0f} GFLOP/s. All calls of a kernel in one inference together; "
        "bytes are the least it must move. Of peak counts the multiply-adds of the direct "
        "computation; Winograd's needs fewer.",
    ]
    for model, rows in result["models"].items():
        lines += [
            "",
            f"## {model}",
            "",
            "| kernel | calls | MMAC | MB | alone, us | of peak | in the network, us | of peak |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted(rows, key=lambda r: -(r["in_network_s"] or 0)):
            macs = row.get("macs", 0)
            alone, there = (_pair(row.get(k), macs, peak) for k in ("alone_s", "in_network_s"))
            lines.append(
                f"| {row['kernel']} | {row['calls']} | {macs / 1e6:.2f} "
                f"| {row.get('bytes', 0) / 1e6:.2f} | {alone} | {there} |"
            )
    return "\n".join(lines) + "\n"


def _pair(seconds: float | None, macs: int, peak: float) -> str:
    if not seconds:
        return "- | -"
    return f"{seconds * 1e6:.0f} | " + (f"{2e-9 * macs / seconds / peak:.0%}" if macs else "-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=["squeezenet1_1", "mobilenet"])
    parser.add_argument("--logs", type=Path, help="the folder of records (default: tuning_logs)")
    parser.add_argument("--runs", type=positive, default=50, help="inferences that are profiled")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results")
    return parser


if __name__ == "__main__":
    sys.exit(main())

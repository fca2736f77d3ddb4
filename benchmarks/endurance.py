"""What a service does to our libraries for hours: from C, and the cost of a call from Python.

    python benchmarks/endurance.py --models squeezenet1_1 mobilenet

A library is opened, run and closed a thousand times, and the process must not grow; two networks
run in eight threads at once, and every output must have the bits of a run alone; a process that
may use one core is compared with a model of one thread, in turns; and a network of one value is
called from Python, where all of the time is the call's own. Nothing else should run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import results_file
import torch
from engines.compiled import compile_apart

import tvm_eff
from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run
from tvm_eff.codegen import toolchain
from tvm_eff.deploy.bundle import Bundle, read
from tvm_eff.errors import UsageError

BENCHMARKS = Path(__file__).resolve().parent
_MOST_GROWTH_KB = 1024
_INFERENCES = 50
_TURNS = 15
_CALLS = 2000


def main(argv: list[str] | None = None) -> int:
    """Wear the libraries of the networks that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs=2, default=["squeezenet1_1", "mobilenet"])
    parser.add_argument("--cycles", type=positive, default=1000)
    parser.add_argument("--logs", type=Path, help="records (default: tune.py's)")
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    arguments = parser.parse_args(argv)
    run_now = results_file.begin(__file__, argv)
    with tempfile.TemporaryDirectory(prefix="endurance-") as name:
        data = _worn(arguments, Path(name))
    path = arguments.output / "endurance.json"
    run_now.with_data(data).write(path)
    print(f"\n{run_now.provenance}\nwritten to {path}")
    return 0


def _worn(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    bundles = [_bundle(each, cores, arguments.logs, folder) for each in arguments.models]
    program = _program(bundles[0], folder)
    rows = [
        _row(name, program, bundle, arguments.cycles, cores[0])
        for name, bundle in zip(arguments.models, bundles, strict=True)
    ]
    outputs = int(_said([program, "threads", *(each.library for each in bundles), "20"])[0])
    print(f"{outputs} outputs of both in 8 threads at once: the bits of a run alone")
    call_us = _call_us(folder)
    print(f"a call from Python costs {call_us:.2f} us")
    return {"rows": rows, "outputs_in_threads": outputs, "python_call_us": call_us}


def _bundle(model: str, cores: list[int], logs: Path | None, folder: Path) -> Bundle:
    made = compile_apart(model, cores, measure=False, proof=False, logs=logs, output=folder / model)
    return read(made.bundle)


def _program(bundle: Bundle, folder: Path) -> Path:
    program = folder / "endurance"
    source = BENCHMARKS / "endurance.c"
    toolchain.run(["cc", "-O2", f"-I{bundle.folder}", source, "-ldl", "-lpthread", "-o", program])
    return program


def _row(name: str, program: Path, bundle: Bundle, cycles: int, core: int) -> dict[str, Any]:
    before, after = map(int, _said([program, "cycles", bundle.library, str(cycles)]))
    print(f"{name}: {cycles} times opened, run and closed: {before} kB before, {after} kB after")
    if after - before > _MOST_GROWTH_KB:
        raise UsageError(f"{name} grows: {before} kB before, {after} kB after {cycles} cycles")
    pinned = ["taskset", "-c", str(core)]
    ratios = []
    for _ in range(_TURNS):
        on_one_core = _median_s([*pinned, program, "time", bundle.library, "0"])
        of_one_thread = _median_s([program, "time", bundle.library, "1"])
        ratios.append(on_one_core / of_one_thread)
    ratio = statistics.median(ratios)
    print(f"{name}: on one core {ratio:.3f} of the time of one thread")
    return {"model": name, "cycles": cycles, "kb": [before, after], "one_core_ratio": ratio}


def _median_s(command: list[str | Path]) -> float:
    return float(_said([*command, str(_INFERENCES)])[0])


def _said(command: list[str | Path]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(f"{' '.join(map(str, command))} failed: {done.stderr.strip()}")
    return done.stdout.split()


def _call_us(folder: Path) -> float:
    """How long a call takes of a network that computes one value, in microseconds."""
    made = tvm_eff.compile(
        torch.nn.ReLU().eval(), torch.ones(1, 1), measure=False, output=folder / "one-value"
    )
    model, x = tvm_eff.load(made.folder, threads=1), np.ones((1, 1), "float32")
    turns = []
    for _ in range(_TURNS):
        begun = time.perf_counter()
        for _ in range(_CALLS):
            model(x)
        turns.append((time.perf_counter() - begun) / _CALLS * 1e6)
    return statistics.median(turns)


if __name__ == "__main__":
    sys.exit(main())

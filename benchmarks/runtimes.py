"""A network's native library and the one that TVM's virtual machine runs, taking turns.

    python benchmarks/runtimes.py --models squeezenet1_1 mobilenet

Both have the same kernels, from the same records, and are loaded in Python, each in a process of
its own that is stopped between its turns. Nothing else should run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import results_file
from engines.base import Engine
from engines.compiled import compile_apart
from engines.turns import Comparison, Options, Outcome, compare
from engines.workload import prepare

from tvm_eff import models
from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run

NATIVE = Engine("native", "engines.tvm_eff_engine", ("tvm_eff",), ours=True)
VIRTUAL_MACHINE = replace(NATIVE, name="virtual-machine")


def main(argv: list[str] | None = None) -> int:
    """Compare the runtimes on the networks that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=models.names(), help="default: the zoo")
    parser.add_argument("--rounds", type=positive, default=20, help="turns of each")
    parser.add_argument("--logs", type=Path, help="records (default: tune.py's)")
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    arguments = parser.parse_args(argv)
    run_now = results_file.begin(__file__, argv)
    rows: list[dict[str, Any]] = []
    path = arguments.output / "runtimes.json"
    print("| model | threads | native, ms | virtual machine, ms | ratio | not quiet |")
    print("|---|---|---|---|---|---|")
    for model in arguments.models:
        for row in _compared(model, arguments):
            rows.append(row)
            run_now.with_data({"rounds": arguments.rounds, "rows": rows}).write(path)
            print(
                f"| {model} | {row['threads']} | {row['native_ms']:.3f} "
                f"| {row['virtual_machine_ms']:.3f} | {row['ratio']:.3f} | {row['disturbances']} |",
                flush=True,
            )
    print(f"\n{run_now.provenance}\nwritten to {path}")
    return 0


def _compared(model: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="runtimes-") as name:
        folder = Path(name)
        workload = prepare(model, 1, folder / "workload")
        bundles = {
            each: compile_apart(
                model,
                cores,
                runtime=each.name,
                measure=False,
                proof=False,
                logs=arguments.logs,
                output=folder / each.name,
            ).bundle
            for each in (NATIVE, VIRTUAL_MACHINE)
        }
        options = Options(
            rounds=arguments.rounds,
            turn_s=0.2,
            timeout_s=300,
            peers_python=Path(sys.executable),
            logs=folder,
            attempts=3,
        )
        rows = []
        for count in sorted({1, len(cores)}):
            jobs = {
                each: workload.job(each, cores[:count], bundle) for each, bundle in bundles.items()
            }
            found = compare(jobs, workload.expected, options, lambda text: None)
            rows.append({"model": model, "threads": count, **_figures(found)})
        return rows


def _figures(found: Comparison) -> dict[str, Any]:
    native, machine = (_rounds(found.outcomes[each.name]) for each in (NATIVE, VIRTUAL_MACHINE))
    return {
        "native_ms": float(np.median(native)) * 1e3,
        "virtual_machine_ms": float(np.median(machine)) * 1e3,
        # Turns of a round are moments apart.
        "ratio": float(np.median(native / machine)),
        "disturbances": "; ".join(found.disturbances),
    }


def _rounds(outcome: Outcome) -> np.ndarray:
    assert outcome.failure is None, outcome.failure
    return np.array([float(np.median(each)) for each in outcome.rounds])


if __name__ == "__main__":
    sys.exit(main())

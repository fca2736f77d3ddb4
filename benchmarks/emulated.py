"""A compilation for an emulated board, cold and with records.

    python benchmarks/emulated.py --target rasp4

Each is a process of its own that calls tvm_eff.compile. Counts are executed instructions
under qemu, not latencies; wall times are this machine's. Results go to
emulated-TARGET.json in --output, in the place of those of an earlier run, after each
model; a Markdown table is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import results_file
from engines.compiled import compile_apart
from results_file import Result

from tvm_eff import models, targets
from tvm_eff.cli.run import run
from tvm_eff.errors import Error, UsageError

MODELS = [
    "squeezenet",
    "squeezenet1_1",
    "squeezenet_bypass",
    "squeezenet_complex_bypass",
    "mobilenet",
    "xception",
    "flattened",
    "flattened_cifar",
    "factorized",
    "factorized_topological",
    "factorized_bottleneck",
]


def main(argv: list[str] | None = None) -> int:
    """Compile each model twice and write what it says."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    target = targets.load(arguments.target)
    if target.emulator is None or target.gpu is not None:
        raise UsageError(f"--target {arguments.target}: no instructions are counted of it")
    for model in arguments.models:
        models.spec(model)
    run_now = results_file.begin(__file__, argv)
    path = arguments.output / f"emulated-{target.name}.json"
    rows: list[dict[str, Any]] = []
    for model in arguments.models:
        rows.append(measure(target.name, model))
        print(json.dumps(rows[-1]), flush=True)
        result = run_now.with_data({"target": target.name, "models": rows})
        result.write(path)
    print(table(result))
    print(f"\nwritten to {path}")


def measure(target: str, model: str) -> dict[str, Any]:
    """Compile a model with an empty folder of records, and again with what it wrote there.

    Raises
    ------
    Error
        A compilation fails, or the second one measures something again.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options: dict[str, Any] = {
            "target": target,
            "logs": folder / "logs",
            "output": folder / "dist",
        }
        cold = compile_apart(model, **options)
        again = compile_apart(model, **options)
    if again.candidates:
        raise Error(f"{model}: with all records, {again.candidates} candidates were measured again")
    return {
        "model": model,
        "where": cold.where,
        "instructions_before": cold.kernels_before,
        "instructions": cold.cost,
        "largest_error": cold.error,
        "candidates": cold.candidates,
        "seconds_cold": cold.seconds,
        "seconds_with_records": again.seconds,
    }


def table(result: Result) -> str:
    """Return the result as Markdown."""
    rows = result.data["models"]
    lines = [
        f"Million executed instructions an inference, {rows[0]['where']}; not latencies.",
        result.provenance,
        "",
        "| model | kernels unscheduled | tuned, end to end | largest error | candidates "
        "| cold, s | with records, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {millions(row['instructions_before'])} "
            f"| {row['instructions'] / 1e6:.1f} | {row['largest_error']:.1e} "
            f"| {row['candidates']} | {row['seconds_cold']:.0f} "
            f"| {row['seconds_with_records']:.0f} |"
        )
    return "\n".join(lines)


def millions(instructions: float | None) -> str:
    """Return what kernels took unscheduled; a dash if this run has not measured it here."""
    return "-" if instructions is None else f"{instructions / 1e6:.0f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="rasp4", help="default: %(default)s")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())

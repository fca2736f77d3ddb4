"""The user's command on an emulated board, cold and with records.

    python benchmarks/emulated.py --target rasp4

Counts are executed instructions under qemu, not latencies; wall times are this
machine's. Results go to benchmarks/results/emulated-TARGET.json, and a Markdown
table is printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
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


def main() -> None:
    """Run the command twice for each model and write what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="rasp4")
    parser.add_argument("--models", nargs="+", default=MODELS)
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        rows.append(measure(arguments.target, model))
        print(json.dumps(rows[-1]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"emulated-{arguments.target}.json"
    result = {"target": arguments.target, "date": date.today().isoformat(), "models": rows}
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    print(f"\nwritten to {path}")


def measure(target: str, model: str) -> dict:
    """Tune a model into an empty folder of records, and build it again from records."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold = tune(target, model, folder / "logs", folder / "dist")
        again = tune(target, model, folder / "logs", folder / "dist")
    assert again["candidates"] == 0, "the second run measured something again"
    return {
        "model": model,
        "where": cold["where"],
        "instructions_before": cold["kernels_before"],
        "instructions": cold["instructions"],
        "largest_error": cold["largest_error"],
        "candidates": cold["candidates"],
        "seconds_cold": cold["seconds"],
        "seconds_with_records": again["seconds"],
    }


def tune(target: str, model: str, logs: Path, output: Path) -> dict:
    """Run the user's command and return its line of JSON."""
    command = [sys.executable, "scripts/tune.py", "--target", target, "--model", model, "--json"]
    command += ["--logs", str(logs), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(result: dict) -> str:
    """Return the result as Markdown."""
    lines = [
        f"Million executed instructions an inference, {result['models'][0]['where']}, "
        f"{result['date']}",
        "",
        "| model | kernels unscheduled | tuned, end to end | largest error | candidates "
        "| cold, s | with records, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["models"]:
        lines.append(
            f"| {row['model']} | {row['instructions_before'] / 1e6:.0f} "
            f"| {row['instructions'] / 1e6:.1f} | {row['largest_error']:.1e} "
            f"| {row['candidates']} | {row['seconds_cold']:.0f} "
            f"| {row['seconds_with_records']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

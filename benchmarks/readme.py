"""Write the README's figures from the results of the other benchmarks.

python benchmarks/readme.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"


def main(argv: Sequence[str] | None = None) -> None:
    """Replace what stands between the two marks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    arguments = parser.parse_args(argv)
    results, readme = arguments.results, arguments.readme
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    emulated = [json.loads(p.read_text()) for p in sorted(results.glob("emulated-*.json"))]
    lines = [line for result in emulated for line in emulated_table(result)]
    peers = results / "peers.json"
    lines += peers_table(json.loads(peers.read_text())) if peers.exists() else []
    for path in sorted(results.glob("opencl-*-mali.json")):
        found = json.loads(path.read_text())
        # Beside it is what was checked without a device, which has no times.
        lines += opencl_table(found) if "where" in found else []
    readme.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + after)


def emulated_table(result: dict[str, Any]) -> list[str]:
    """Return the instructions of one target's models."""
    lines = [
        f"Million executed instructions an inference, {result['models'][0]['where']}, "
        f"{result['date']},",
        f"from `python benchmarks/emulated.py --target {result['target']}`; not latencies.",
        "The times are a 2-core x86-64 machine's.",
        "",
        "| model | kernels unscheduled | tuned, end to end | largest error | cold | with records |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["models"]:
        lines.append(
            f"| {row['model']} | {row['instructions_before'] / 1e6:.0f} "
            f"| {row['instructions'] / 1e6:.1f} | {row['largest_error']:.1e} of the spread "
            f"| {row['seconds_cold']:.0f} s | {row['seconds_with_records']:.0f} s |"
        )
    return [*lines, ""]


def peers_table(result: dict[str, Any]) -> list[str]:
    """Return the latencies of all models on the host, beside the best peer's."""
    rows = [row for row in result["rows"] if row["batch"] == 1]
    engines = list(dict.fromkeys(name for row in rows for name in row["engines"]))
    lines = [
        f"Latency in ms (p50) on a host: {result['machine']}, {result['cores']} cores, batch 1, "
        f"float32, {result['date']},",
        "the engines of a row taking turns, from `python benchmarks/peers.py`; more, and how the",
        "runs were put together, in [docs/performance.md](docs/performance.md):",
        "",
        f"| model | threads | {' | '.join(engines)} | ratio to the best other |",
        f"|---|---|{'---|' * len(engines)}---|",
    ]
    for row in sorted(rows, key=lambda row: (row["model"], row["threads"])):
        cells = [row["engines"].get(name, {}).get("p50_ms") for name in engines]
        texts = ["-" if cell is None else f"{cell:.2f}" for cell in cells]
        ratio = row["engines"].get("tvm_eff", {}).get("ratio_to_best_peer")
        texts.append("-" if ratio is None else f"{ratio:.2f}")
        lines.append(f"| {row['model']} | {row['threads']} | {' | '.join(texts)} |")
    return lines


def opencl_table(result: dict[str, Any]) -> list[str]:
    """Return what a device in the place of a GPU took, with our schedules and TVM's."""
    lines = [
        "",
        f"Milliseconds an inference of the kernels for {result['target']}, on",
        f"{result['where'].replace('this machine', 'a host')}, {result['dtype']},",
        f"{result['date']}, from `python benchmarks/opencl.py`; no board's times:",
        "",
        "| model | TVM's default schedules | tuned | largest error | tuning |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['model']} | {row['default_ms']:.0f} | {row['ms']:.1f} "
            f"| {row['error']:.1e} of the spread | {row['tuning_s']:.0f} s |"
        )
    return lines


if __name__ == "__main__":
    main()

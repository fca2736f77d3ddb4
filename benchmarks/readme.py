"""Write the README's figures from the results of the other benchmarks.

python benchmarks/readme.py
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"


def main() -> None:
    """Replace what stands between the two marks."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    emulated = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("emulated-*.json"))]
    host = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("host-*.json"))]
    lines = [line for result in emulated for line in emulated_table(result)] + host_table(host)
    readme.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + after)


def emulated_table(result: dict) -> list[str]:
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


def host_table(results: list[dict]) -> list[str]:
    """Return the latencies of all models on the host."""
    first = results[0]
    lines = [
        f"Latency in ms (p50) on a host: {first['machine']}, {first['threads']} threads, batch 1, "
        f"float32, {first['date']},",
        "engines taking turns in one run, from `python benchmarks/host.py`:",
        "",
        "| model | tvm_eff | torch.compile | PyTorch eager | ratio to torch.compile | tuned cold |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        ours, compiled, eager = (
            result["milliseconds"][name]["p50"]
            for name in ("tvm_eff", "torch.compile", "torch eager")
        )
        lines.append(
            f"| {result['model']} | {ours:.2f} | {compiled:.2f} | {eager:.2f} "
            f"| {ours / compiled:.2f} | {result['tuning_seconds']:.0f} s |"
        )
    return lines


if __name__ == "__main__":
    main()

"""Write docs/performance.md from the results of the other benchmarks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 6
"""Kernels of a network that are listed."""


def main(argv: list[str] | None = None) -> None:
    """Write the page from what is present, and say what is absent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance.md")
    arguments = parser.parse_args(argv)
    lines = ["# Performance", "", "Written by `python benchmarks/performance.py`."]
    for title, name, section in (
        ("Against other engines, this kind of machine", "peers.json", peers),
        ("Against other engines, emulated Cortex-A72", "arm-rasp4.json", arm),
        ("What limits each network", "layers-host.json", layers),
    ):
        path = arguments.results / name
        lines += ["", f"## {title}", ""]
        lines += section(json.loads(path.read_text())) if path.exists() else [f"No {name} yet."]
    arguments.output.write_text("\n".join(lines) + "\n")


def peers(result: dict[str, Any]) -> list[str]:
    """Return our latency beside the best peer's."""
    lines = [
        f"{result['machine']}, {result['date']}, float32, medians in ms.",
        "",
        "| model | batch | threads | tvm_eff | best peer | ratio | of peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        ours, best = row["engines"].get("tvm_eff", {}), row["best_peer"]
        if best is None or "p50_ms" not in ours:
            continue
        theirs = row["engines"][best]["p50_ms"]
        lines.append(
            f"| {row['model']} | {row['batch']} | {row['threads']} | {ours['p50_ms']:.2f} "
            f"| {best} {theirs:.2f} | {ours['ratio_to_best_peer']:.2f} "
            f"| {ours['fraction_of_peak']:.0%} |"
        )
    return lines


def arm(result: dict[str, Any]) -> list[str]:
    """Return the instructions of all engines on the emulated board."""
    lines = [
        f"Million executed instructions an inference, {result['where']}, {result['date']}; "
        "one thread, batch 1, float32; no latencies.",
        "",
        "| model | engine | instructions | ratio to the best peer | vector multiply-adds |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        for engine, found in row["engines"].items():
            if "instructions" in found:
                lines.append(
                    f"| {row['model']} | {engine} | {found['instructions'] / 1e6:.1f} "
                    f"| {found['ratio_to_best_peer']:.2f} | {found['fmas'] / 1e6:.1f} |"
                )
    return lines


def layers(result: dict[str, Any]) -> list[str]:
    """Return the largest kernels of each network, alone and in place."""
    peak = result["peak_gflops"]
    lines = [
        f"{result['machine']}, {result['threads']} threads, {result['date']}; "
        f"measured peak {peak:.0f} GFLOP/s. Alone, a kernel's weights are in the second cache; "
        "in the network they come from further away. Of peak counts the multiply-adds of the "
        "direct computation; Winograd's needs fewer.",
    ]
    for model, rows in result["models"].items():
        lines += ["", f"### {model}", ""]
        lines += [
            "| kernel | alone, us (of peak) | in the network, us (of peak) |",
            "|---|---|---|",
        ]
        largest = sorted(rows, key=lambda r: -(r["in_network_s"] or 0))[:LARGEST]
        for row in largest:
            alone, there = (_cell(row.get(k), row, peak) for k in ("alone_s", "in_network_s"))
            lines.append(f"| {row['kernel']} | {alone} | {there} |")
    return lines


def _cell(seconds: float | None, row: dict[str, Any], peak: float) -> str:
    if not seconds:
        return "-"
    macs = row.get("macs", 0)
    share = f" ({2e-9 * macs / seconds / peak:.0%})" if macs else ""
    return f"{seconds * 1e6:.0f}{share}"


if __name__ == "__main__":
    main()

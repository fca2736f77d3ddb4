"""Kernels of networks as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from roofline.bounds import Limits, bound_of

Rows = Sequence[Mapping[str, Any]]


def heading(result: Mapping[str, Any]) -> str:
    """Say where seconds come from and what they are held against."""
    limits = Limits.of(result)
    bandwidth = (
        f" and {limits.near / 1e9:.0f} GB/s read from the second caches, "
        f"{limits.far / 1e9:.0f} GB/s from beyond"
        if limits is not None
        else ""
    )
    return (
        f"{result['threads']} threads; measured peaks "
        f"{result['peak_gflops']:.0f} GFLOP/s{bandwidth}. All calls of a kernel in one inference "
        "together. Alone, a kernel's data are in the second cache; in the network they come "
        "from further away. Of peak counts the multiply-adds of the direct computation; "
        "Winograd's and Strassen's need fewer."
    )


def seconds(result: Mapping[str, Any], rows: Rows) -> list[str]:
    """Return a network's kernels with their time and what holds them, the longest first."""
    limits, peak = Limits.of(result), result["peak_gflops"]
    lines = [
        "| kernel | calls | MMAC | MB | alone, us (of peak) | in the network, us (of peak) "
        "| held by |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -(row["in_network_s"] or 0)):
        macs = row.get("macs", 0)
        alone, there = (_time(row.get(key), macs, peak) for key in ("alone_s", "in_network_s"))
        bound = bound_of(row, limits) if limits is not None else "-"
        lines.append(
            f"| {row['kernel']} | {row['calls']} | {macs / 1e6:.2f} "
            f"| {row.get('bytes', 0) / 1e6:.2f} | {alone} | {there} | {bound} |"
        )
    return lines


def _time(taken: float | None, macs: int, peak: float) -> str:
    if not taken:
        return "-"
    share = f" ({2e-9 * macs / taken / peak:.0%})" if macs else ""
    return f"{taken * 1e6:.0f}{share}"


def board_heading(result: Mapping[str, Any]) -> str:
    """Say where instructions were counted."""
    return (
        f"Executed instructions, {result['where']}; one thread, all calls of a "
        "kernel in one inference together, each run alone. Multiply-adds are vector instructions, "
        "of four float32 lanes. No latencies."
    )


def instructions(rows: Rows) -> list[str]:
    """Return a network's kernels with what they execute, the most instructions first."""
    lines = [
        "| kernel | calls | MMAC | million instructions | multiply-adds | loads | stores "
        "| instructions a multiply-add |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -row["instructions"]):
        cells = [f"{row[name] / 1e6:.2f}" for name in ("macs", "instructions", "fmas")]
        cells += [f"{row[name] / 1e6:.2f}" for name in ("loads", "stores")]
        lines.append(f"| {row['kernel']} | {row['calls']} | {' | '.join(cells)} | {_ratio(row)} |")
    return lines


def _ratio(row: Mapping[str, Any]) -> str:
    return f"{row['instructions'] / row['fmas']:.2f}" if row["fmas"] > 0 and row["macs"] else "-"


def instruction_sentences(rows: Rows) -> list[str]:
    """Say what a network executes beside its multiply-adds, and in which kernels."""
    whole, fmas = (sum(row[name] for row in rows) for name in ("instructions", "fmas"))
    beside = sorted(rows, key=lambda row: row["fmas"] - row["instructions"])[:3]
    named = "; ".join(
        f"{row['kernel']} ({(row['instructions'] - row['fmas']) / 1e6:.1f})" for row in beside
    )
    return [
        f"{whole / 1e6:.1f} million instructions an inference, of which {fmas / 1e6:.1f} are "
        f"vector multiply-adds ({fmas / whole:.0%}). Most of the others, in millions: {named}."
    ]

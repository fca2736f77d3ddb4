"""The results as Markdown tables and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results_file import Result

from engines.base import ENGINES
from engines.results import OURS, Row

DISTURBED = "(!)"
"""Stands beside a row during which the machine was never quiet."""


def markdown(result: Result) -> str:
    """Return all rows as Markdown: a summary for each batch and threads, then the details."""
    rows: list[Row] = sorted(
        result.data["rows"], key=lambda r: (r["model"], r["batch"], r["threads"])
    )
    lines = [
        "# Our library and its peers",
        "",
        result.provenance,
        "",
        f"{_dtype(result)}. Engines take turns in one run, {result.data['rounds']} rounds, each in "
        "a process of its own that is stopped between its turns. A call takes a numpy array and "
        "returns one. Every output was compared with PyTorch's before it was timed.",
        "",
        "Median latency in ms; in brackets the ratio to the best engine that is not ours, "
        f"which is **bold**. {DISTURBED} marks rows during which the machine was never quiet.",
    ]
    for batch, threads in _settings(rows):
        chosen = [row for row in rows if (row["batch"], row["threads"]) == (batch, threads)]
        lines += ["", f"## {_setting(batch, threads)}", "", *_summary(chosen)]
    lines += ["", "# Details"]
    for row in rows:
        lines += ["", *_details(row)]
    return "\n".join([*lines, "", *_notes(rows)]) + "\n"


def _dtype(result: Result) -> str:
    # Results of before there was a choice do not say.
    return str(result.data.get("dtype", "float32"))


def marked(row: Row) -> str:
    """Return the name of a row's model, with the mark of a machine that was not quiet."""
    # Rows of before results named their commit do not say.
    return f"{row['model']} {DISTURBED}" if row.get("disturbed") else str(row["model"])


def plot(result: Result, path: Path) -> None:
    """Draw each engine's latency as a multiple of the best peer's, with its spread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    rows: list[Row] = result.data["rows"]
    settings, names = _settings(rows), _names(rows)
    most = max(sum((r["batch"], r["threads"]) == s for r in rows) for s in settings)
    figure, axes = pyplot.subplots(
        len(settings),
        1,
        figsize=(max(7.0, 1.3 * most + 2), 3.4 * len(settings)),
        squeeze=False,
        layout="constrained",
    )
    for axis, (batch, threads) in zip(axes[:, 0], settings, strict=True):
        chosen = [row for row in rows if (row["batch"], row["threads"]) == (batch, threads)]
        for place, name in enumerate(names):
            _bars(axis, chosen, name, place, len(names))
        axis.axhline(1.0, color="black", linewidth=0.8)
        axis.set_xticks(range(len(chosen)), [row["model"] for row in chosen])
        axis.tick_params(axis="x", labelrotation=20 if len(chosen) > 4 else 0)
        axis.set_ylim(0, 3)
        axis.set_ylabel("latency / best peer's")
        axis.set_title(_setting(batch, threads))
    handles = [Rectangle((0, 0), 1, 1, color=f"C{place}") for place in range(len(names))]
    figure.legend(handles, names, ncols=4, loc="outside lower center")
    figure.suptitle(f"{result.words}, {_dtype(result)}, {result.date} (bars above 3 are cut)")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _bars(axis: Any, rows: Sequence[Row], name: str, place: int, count: int) -> None:
    width = 0.85 / count
    for index, row in enumerate(rows):
        found, best = row["engines"].get(name, {}), row["best_peer"]
        x = index + (place - (count - 1) / 2) * width
        if best is None or "p50_ms" not in found:
            continue
        base = row["engines"][best]["p50_ms"]
        low, middle, high = (found[f"p{p}_ms"] / base for p in (10, 50, 90))
        axis.bar(
            x,
            middle,
            width,
            color=f"C{place}",
            yerr=[[middle - low], [high - middle]],
            error_kw={"linewidth": 0.8},
        )


def _summary(rows: Sequence[Row]) -> list[str]:
    names = _names(rows)
    lines = ["| model | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        cells = [_cell(row, name) for name in names]
        lines.append(f"| {marked(row)} | " + " | ".join(cells) + " |")
    return lines


def _cell(row: Row, name: str) -> str:
    found = row["engines"].get(name)
    if found is None:
        return ""
    if "failure" in found:
        return "failed"
    ratio = f" ({found['ratio_to_best_peer']:.2f})" if "ratio_to_best_peer" in found else ""
    text = f"{found['p50_ms']:.2f}{ratio}"
    return f"**{text}**" if name == row["best_peer"] else text


def _details(row: Row) -> list[str]:
    ours = row["engines"].get(OURS, {})
    lines = [
        f"## {row['model']}, {_setting(row['batch'], row['threads'])}",
        "",
        f"Input {' x '.join(map(str, row['shape']))}, {row['macs'] / 1e6:.1f} million MACs; "
        f"measured peak {row['peak_gflops']:.0f} GFLOP/s; other programs took "
        f"{row['quietness']['during']:.1%} of the cores.",
    ]
    if row["disturbed"]:
        lines[-1] += (
            f" {DISTURBED} Not quiet in {row['attempts']} attempts, of which this is the "
            f"quietest: {'; '.join(row['disturbances'])}."
        )
    if "ratio_p10" in ours:
        lines[-1] += (
            f" Ours to {row['best_peer']}: {ours['ratio_to_best_peer']:.3f}, "
            f"from round to round {ours['ratio_p10']:.3f} to {ours['ratio_p90']:.3f} (p10, p90)."
        )
    lines += [
        "",
        "| engine | p10 ms | p50 ms | p90 ms | ratio | of peak | error | calls | cores | threads "
        "| MB (growth, peak) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in row["engines"].items():
        error = f"{found['error']:.1e}" if found.get("error") is not None else "-"
        if "failure" in found:
            reason = found["failure"].replace("|", "\\|")
            lines.append(f"| {name} | {reason} | | | | | {error} | | | | |")
            continue
        ratio = found.get("ratio_to_best_peer")
        lines.append(
            f"| {name} | {found['p10_ms']:.3f} | {found['p50_ms']:.3f} | {found['p90_ms']:.3f} "
            f"| {'-' if ratio is None else format(ratio, '.3f')} "
            f"| {found['fraction_of_peak']:.0%} | {error} | {found['calls']} "
            f"| {_used(found, row['threads'])} |"
        )
    return lines


def _used(found: dict[str, Any], threads: int) -> str:
    cores = f"{found['cores_used']:.2f}" if "cores_used" in found else "-"
    working = f"{found['threads_used']:.0f}" if "threads_used" in found else "-"
    if "threads_used" in found and found["threads_used"] != threads:
        working += f" of {threads} (!)"
    memory = "-"
    if "memory_mb" in found:
        # Results of before the peak was measured have none.
        peak = f", {found['peak_mb']:.0f}" if "peak_mb" in found else ""
        memory = f"{found['memory_mb']:.0f} ({found['memory_growth_mb']:+.0f}{peak})"
    return f"{cores} | {working} | {memory}"


def _notes(rows: Sequence[Row]) -> list[str]:
    versions: dict[str, str] = {}
    for row in rows:
        for found in row["engines"].values():
            versions |= found["versions"]
    names = _names(rows)
    notes = [f"{each.name}: {each.note}." for each in ENGINES if each.note and each.name in names]
    return [
        "Error: the largest difference from PyTorch's output as a fraction of its spread. "
        "Of peak: 2 x MACs / p50 / the measured peak of multiply-adds; an algorithm that needs "
        "fewer of them, such as Winograd's, can be above what it computes. Cores: processor time "
        "over wall time while calls were timed. Threads: those that ran for a tenth of it. "
        "MB: resident at the end, how much more than after the first turn, and the most there ever "
        "was, of Python too. A slow engine "
        "takes fewer turns.",
        *notes,
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["engines"]))


def _settings(rows: Sequence[Row]) -> list[tuple[int, int]]:
    return sorted({(row["batch"], row["threads"]) for row in rows})


def _setting(batch: int, threads: int) -> str:
    return f"batch {batch}, {threads} thread{'' if threads == 1 else 's'}"

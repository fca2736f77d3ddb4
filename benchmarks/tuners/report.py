"""What two tuners delivered as Markdown and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results_file import Result

from tuners.results import best_against_time, first_within


def markdown(result: Result) -> str:
    """Return both tuners, one line a model each, and the winners kernel by kernel."""
    lines = [
        "# Our tuner and MetaSchedule's",
        "",
        result.provenance,
        "",
        "Each tunes the kernels together, alone on the machine, from nothing; times count from "
        "the start of its process, imports included. MetaSchedule measures "
        f"{result.data['stock_batch']} candidates at a time. Candidates are those that work.",
        "",
        *summary(result),
    ]
    for row in result.data["models"]:
        lines += ["", f"## {row['model']}", "", *_winners(row), *_failures(row)]
    return "\n".join(lines) + "\n"


def summary(result: Result) -> list[str]:
    """Return the table of tuners: candidates a second, and when the best were found."""
    lines = [
        "| model | kernels | tuner | candidates | failed | a second | every kernel has one "
        "| within 3% of its best | best found, ms | winners in turns, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result.data["models"]:
        calls = [each["calls"] for each in row["kernels"]]
        for tuner, found in row["tuners"].items():
            curve = best_against_time(found["measured"], calls)
            cells = [row["model"], len(calls), tuner, found["candidates"], found["failed"]]
            cells += [f"{found['per_second']:.2f}", *_reached(curve)]
            total = _total(row, tuner)
            cells += ["-" if total is None else f"{total * 1e3:.3f}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _reached(curve: list[tuple[float, float]]) -> list[str]:
    within = first_within(curve, 0.03)
    if within is None:
        return ["-", "-", "-"]
    return [f"{curve[0][0]:.0f} s", f"{within:.0f} s", f"{curve[-1][1] * 1e3:.3f}"]


def _total(row: dict[str, Any], tuner: str) -> float | None:
    """Return the seconds of an inference's calls of all kernels, or None if one has no winner."""
    total = 0.0
    for kernel in row["kernels"]:
        seconds = kernel["winners"].get(tuner, {}).get("seconds")
        if seconds is None:
            return None
        total += seconds * kernel["calls"]
    return total


def _winners(row: dict[str, Any]) -> list[str]:
    tuners = list(row["tuners"])
    lines = [
        "| kernel | calls | " + " | ".join(f"{tuner}, us (error)" for tuner in tuners) + " |",
        "|---|---|" + "---|" * len(tuners),
    ]
    for kernel in row["kernels"]:
        cells = [_winner(kernel["winners"].get(tuner)) for tuner in tuners]
        lines.append(f"| {kernel['kernel']} | {kernel['calls']} | {' | '.join(cells)} |")
    return lines


def _winner(found: dict[str, float | None] | None) -> str:
    if found is None:
        return "none"
    error = "infinite" if found["error"] is None else f"{found['error']:.1e}"
    seconds = found["seconds"]
    return f"wrong ({error})" if seconds is None else f"{seconds * 1e6:.1f} ({error})"


def _failures(row: dict[str, Any]) -> list[str]:
    lines = []
    for tuner, found in row["tuners"].items():
        if found["failure"] is not None:
            lines += ["", f"{tuner} {found['failure']}"]
        for reason, count in found["reasons"].items():
            lines += ["", f"{tuner}, {count} times: {reason}"]
    return lines


def plot(result: Result, path: Path) -> None:
    """Draw the best latency found against wall time, one panel a model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = result.data["models"]
    figure, axes = pyplot.subplots(
        len(rows), 1, figsize=(7, 3.6 * len(rows)), squeeze=False, layout="constrained"
    )
    for axis, row in zip(axes[:, 0], rows, strict=True):
        calls = [each["calls"] for each in row["kernels"]]
        for tuner, found in row["tuners"].items():
            curve = best_against_time(found["measured"], calls)
            label = f"{tuner}, {found['per_second']:.2f} candidates/s"
            if not curve:
                # In the legend all the same: that there is no curve is a result.
                axis.plot([], [], label=f"{label}: not every kernel has one")
                continue
            times, best = zip(*curve, (found["seconds"], curve[-1][1]), strict=True)
            axis.step(times, [value * 1e3 for value in best], where="post", label=label)
        axis.set(xscale="log", yscale="log", ylabel="best so far, ms an inference")
        axis.set_title(f"{row['model']}, the {len(calls)} kernels with the most work")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    axes[-1, 0].set_xlabel("wall time from the start of the tuner's process, s")
    figure.suptitle(f"{result.words}, {result.date}", fontsize=9)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

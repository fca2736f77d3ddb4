"""Write docs/performance.md, and its plots, from the results of the other benchmarks.

    python benchmarks/performance.py

Only files are taken that name their commit, machine and day, all of one commit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results_file
from engines import report as engines_report
from engines.results import OURS, Row
from results_file import Result
from tuners import report as tuners_report

from tvm_eff.cli.run import run

OUTPUT = results_file.ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    title
        Its heading.
    files
        The pattern of the results that it shows, each with a table of its own.
    lines
        Returns a result as sentences and a table.
    image, plot
        The file of a plot, and what draws it.
    """

    title: str
    files: str
    lines: Callable[[Result], list[str]]
    image: str = ""
    plot: Callable[[Result, Path], None] | None = None


def main(argv: list[str] | None = None) -> int:
    """Write the page from what is present, and say what is absent."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    found = [path for each in SECTIONS for path in sorted(arguments.results.glob(each.files))]
    results = results_file.read_all(found, arguments.allow_mixed)
    lines = [
        "# Performance",
        "",
        "Written by `python benchmarks/performance.py` from `benchmarks/results/`. How it is "
        "measured: [measuring](measuring.md); what was tried to get further: [limits](limits.md).",
    ]
    if results_file.is_mixed(results.values()):
        lines += ["", "**The tables are of different commits**, which stand above each."]
    for section in SECTIONS:
        lines += ["", f"## {section.title}"]
        shown = [results[path.name] for path in sorted(arguments.results.glob(section.files))]
        for result in shown:
            lines += ["", result.provenance, "", *section.lines(result)]
            if section.plot is not None:
                section.plot(result, arguments.output.parent / section.image)
                lines += ["", f"![{section.title}]({section.image})"]
        if not shown:
            lines += ["", f"No {section.files} yet."]
    arguments.output.write_text("\n".join(lines) + "\n")


def peers(result: Result) -> list[str]:
    """Return our latency beside the best peer's, and which engines were not timed and why."""
    rows: list[Row] = result.data["rows"]
    compared = [row for row in rows if _comparable(row, "p50_ms")]
    lines = [
        "float32, medians in ms, the engines of a row taking turns. "
        f"{_standing(compared, 'is the fastest', 'its time')}",
        "",
        "| model | batch | threads | tvm_eff | best peer | ratio | p10 to p90 | of peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in compared:
        ours, best = row["engines"][OURS], row["best_peer"]
        spread = "-"
        if "ratio_p10" in ours:
            spread = f"{ours['ratio_p10']:.2f} to {ours['ratio_p90']:.2f}"
        lines.append(
            f"| {engines_report.marked(row)} | {row['batch']} | {row['threads']} "
            f"| {ours['p50_ms']:.2f} | {best} {row['engines'][best]['p50_ms']:.2f} "
            f"| {ours['ratio_to_best_peer']:.2f} | {spread} | {ours['fraction_of_peak']:.0%} |"
        )
    return [*lines, *_disturbed(rows), *_failures(rows)]


def _comparable(row: Row, figure: str) -> bool:
    return row["best_peer"] is not None and figure in row["engines"].get(OURS, {})


def _standing(rows: Sequence[Row], is_best: str, what: str) -> str:
    """Say of how many comparisons ours is the best, and where it is furthest from that."""
    if not rows:
        return "Ours was compared with no other engine."
    ratios = [(row["engines"][OURS]["ratio_to_best_peer"], _case(row)) for row in rows]
    ahead = sum(ratio < 1 for ratio, _ in ratios)
    others = sorted({name for row in rows for name in row["engines"] if name != OURS})
    (least, first), (most, last) = min(ratios), max(ratios)
    return (
        f"Ours {is_best} in {ahead} of {len(rows)} comparisons with {', '.join(others)}; {what} is "
        f"{least:.2f} times the best other's at best ({first}) and {most:.2f} times at worst "
        f"({last})."
    )


def _case(row: Row) -> str:
    if "threads" not in row:
        return str(row["model"])
    threads = row["threads"]
    return f"{row['model']}, batch {row['batch']}, {threads} thread{'' if threads == 1 else 's'}"


def _disturbed(rows: Sequence[Row]) -> list[str]:
    marked = [row for row in rows if row.get("disturbed")]
    if not marked:
        return []
    lines = ["", f"{engines_report.DISTURBED} The machine was never quiet:", ""]
    return lines + [
        f"- {_case(row)}, the quietest of {row['attempts']} attempts: "
        f"{'; '.join(row['disturbances'])}"
        for row in marked
    ]


def _failures(rows: Sequence[Row]) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for engine, each in row["engines"].items():
            if "failure" in each:
                found.setdefault((engine, each["failure"]), []).append(_case(row))
    if not found:
        return []
    lines = ["", "Not measured:", ""]
    return lines + [f"- {e}: {why} ({'; '.join(cases)})" for (e, why), cases in found.items()]


def arm(result: Result) -> list[str]:
    """Return the instructions of all engines on the emulated board, a row a network."""
    rows: list[Row] = result.data["rows"]
    compared = [row for row in rows if _comparable(row, "instructions")]
    names = list(dict.fromkeys(name for row in rows for name in row["engines"]))
    lines = [
        f"Million executed instructions an inference, {result.data['where']}, one thread, batch 1, "
        "float32; no latencies. "
        f"{_standing(compared, 'executes the fewest', 'its number')}",
        "",
        f"| model | {' | '.join(names)} | ratio to the best other | ours: vector multiply-adds |",
        f"|---|{'---|' * len(names)}---|---|",
    ]
    for row in rows:
        counts = [row["engines"].get(name, {}).get("instructions") for name in names]
        ours = row["engines"].get(OURS, {})
        cells = [*map(_millions, counts)]
        cells += [_ratio(ours.get("ratio_to_best_peer")), _millions(ours.get("fmas"))]
        lines.append(f"| {row['model']} | {' | '.join(cells)} |")
    return [*lines, *_failures(rows)]


def _millions(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.1f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def tuning(result: Result) -> list[str]:
    """Return what our tuner and MetaSchedule's found in which time."""
    return [
        "The kernels with the most work, tuned from nothing, imports included; MetaSchedule "
        f"measures {result.data['stock_batch']} candidates at a time.",
        "",
        *tuners_report.summary(result),
    ]


def opencl(result: Result) -> list[str]:
    """Return what a device in the place of a GPU took, with our schedules and TVM's."""
    data: dict[str, Any] = result.data
    where = str(data["where"]).replace("this machine", "a host")
    faster = [row["faster"] for row in data["rows"]]
    lines = [
        f"Milliseconds an inference of the kernels for {data['target']}, on {where}, "
        f"{data['dtype']}; no board's times. In turns with TVM's default schedules, tuned ones are "
        f"{min(faster):.0f} to {max(faster):.0f} times as fast.",
        "",
        "| model | TVM's default schedules | tuned | largest error | tuning |",
        "|---|---|---|---|---|",
    ]
    for row in data["rows"]:
        lines.append(
            f"| {row['model']} | {row['default_ms']:.0f} | {row['ms']:.1f} "
            f"| {row['error']:.1e} of the spread | {row['tuning_s']:.0f} s |"
        )
    return lines


SECTIONS = (
    Section(
        "Latency, against other engines",
        "peers.json",
        peers,
        "peers-host.png",
        engines_report.plot,
    ),
    Section("Instructions on an emulated board, against other engines", "arm-rasp4.json", arm),
    Section(
        "Tuning, against stock MetaSchedule",
        "tuning.json",
        tuning,
        "tuning-host.png",
        tuners_report.plot,
    ),
    Section("OpenCL, against TVM's default schedules", "opencl-*-mali*.json", opencl),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    results_file.add_reading_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Write docs/performance.md, and its plots, from the results of the other benchmarks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engines.report import plot as plot_peers
from loops.report import section as hot_loops
from roofline import prose, report
from roofline.bounds import Limits
from sampling.report import section as sampled
from tuners.report import plot as plot_tuning
from tuners.report import summary

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 6
"""Kernels of a network that are listed."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page from what is present, and say what is absent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance.md")
    arguments = parser.parse_args(argv)
    lines = [
        "# Performance",
        "",
        "Written by `python benchmarks/performance.py`; every figure and sentence below comes "
        "from a file of `benchmarks/results/`, and [the benchmarks](../benchmarks/README.md) "
        "say how each is made. What was tried to get further is in [limits](limits.md).",
    ]
    for title, name, section in SECTIONS:
        path = arguments.results / name
        lines += ["", f"## {title}", ""]
        if not path.exists():
            lines.append(f"No {name} yet.")
            continue
        result = json.loads(path.read_text())
        lines += section(result)
        if name in PLOTS:
            image, plot = PLOTS[name]
            plot(result, arguments.output.parent / image)
            lines += ["", f"![{title}]({image})"]
    arguments.output.write_text("\n".join(lines) + "\n")


def peers(result: dict[str, Any]) -> list[str]:
    """Return our latency beside the best peer's, and which engines were not timed and why."""
    compared = [row for row in result["rows"] if _comparable(row)]
    lines = [
        f"{result['machine']}, {result['date']}, float32, medians in ms, the engines of a row "
        f"taking turns. {result.get('note', '')}".rstrip(),
        "",
        *_standing(compared),
        "Of peak counts the multiply-adds of the direct computation, of which Winograd's and "
        "Strassen's algorithms need fewer. At the peak: the ratio of a library that did nothing "
        "but those, at the measured peak throughout.",
        "",
        "| model | batch | threads | tvm_eff | best peer | ratio | p10 to p90 | of peak "
        "| at the peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in compared:
        ours, best = row["engines"]["tvm_eff"], row["best_peer"]
        spread = "-"
        if "ratio_p10" in ours:
            spread = f"{ours['ratio_p10']:.2f} to {ours['ratio_p90']:.2f}"
        lines.append(
            f"| {row['model']} | {row['batch']} | {row['threads']} | {ours['p50_ms']:.2f} "
            f"| {best} {row['engines'][best]['p50_ms']:.2f} | {ours['ratio_to_best_peer']:.2f} "
            f"| {spread} | {ours['fraction_of_peak']:.0%} | {_at_the_peak(row):.2f} |"
        )
    return [*lines, *_failures(result["rows"])]


def _comparable(row: dict[str, Any]) -> bool:
    return row["best_peer"] is not None and "p50_ms" in row["engines"].get("tvm_eff", {})


def _at_the_peak(row: dict[str, Any]) -> float:
    """What multiply-adds alone would take at the peak, over what the best peer takes."""
    return row["engines"][row["best_peer"]]["fraction_of_peak"]


def _standing(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say of how many comparisons ours is the fastest, and where it is furthest from that."""
    if not rows:
        return ["Ours was compared with no other engine.", ""]
    ratios = [(row["engines"]["tvm_eff"]["ratio_to_best_peer"], row) for row in rows]
    ahead = sum(ratio < 1 for ratio, _ in ratios)
    engines = sorted({name for row in rows for name in row["engines"] if name != "tvm_eff"})
    text = f"Ours is the fastest in {ahead} of {len(rows)} comparisons with {', '.join(engines)}; "
    (least, first), (most, last) = (pick(ratios, key=_ratio) for pick in (min, max))
    text += f"its time is {least:.2f} times the best other's at best ({_case(first)}) and "
    return [f"{text}{most:.2f} times at worst ({_case(last)}).", ""]


def _ratio(each: tuple[float, dict[str, Any]]) -> float:
    return each[0]


def _case(row: dict[str, Any]) -> str:
    threads = row["threads"]
    return f"{row['model']}, batch {row['batch']}, {threads} thread{'' if threads == 1 else 's'}"


def _failures(rows: Sequence[dict[str, Any]]) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for engine, each in row["engines"].items():
            if "failure" in each:
                found.setdefault((engine, each["failure"]), []).append(_case(row))
    if not found:
        return []
    lines = ["", "Not timed:", ""]
    return lines + [f"- {e}: {why} ({'; '.join(cases)})" for (e, why), cases in found.items()]


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
                ratio = found.get("ratio_to_best_peer")
                lines.append(
                    f"| {row['model']} | {engine} | {found['instructions'] / 1e6:.1f} "
                    f"| {'-' if ratio is None else format(ratio, '.2f')} "
                    f"| {found['fmas'] / 1e6:.1f} |"
                )
    return lines


def tuning(result: dict[str, Any]) -> list[str]:
    """Return what our tuner and MetaSchedule's found in which time."""
    return [
        f"{result['machine']}, {result['cores']} cores, {result['date']}; the kernels with the "
        "most work, tuned from nothing, imports included; MetaSchedule measures "
        f"{result['stock_batch']} candidates at a time.",
        "",
        *summary(result),
    ]


def layers(result: dict[str, Any]) -> list[str]:
    """Return what holds each network, in sentences and by its largest kernels."""
    limits = Limits.of(result)
    lines = [report.heading(result)]
    if limits is None:
        lines += ["", "These results are without a bandwidth: run `benchmarks/layers.py` again."]
    for model, rows in result["models"].items():
        lines += ["", f"### {model}", ""]
        lines += [*prose.sentences(rows, limits), ""] if limits is not None else []
        lines += report.seconds(result, rows, LARGEST)
    return lines


def board_layers(result: dict[str, Any]) -> list[str]:
    """Return what each network executes on the board, by its largest kernels."""
    lines = [report.board_heading(result)]
    for model, rows in result["models"].items():
        lines += ["", f"### {model}, {result['target']}", ""]
        lines += [*report.instruction_sentences(rows), "", *report.instructions(rows, LARGEST)]
    return lines


SECTIONS: tuple[tuple[str, str, Callable[[dict[str, Any]], list[str]]], ...] = (
    ("Against other engines, this kind of machine", "peers.json", peers),
    ("Against other engines, another machine, an earlier version", "peers-xeon.json", peers),
    ("Against other engines, emulated Cortex-A72", "arm-rasp4.json", arm),
    ("Tuning, against stock MetaSchedule", "tuning.json", tuning),
    ("What limits each network", "layers-host.json", layers),
    ("Where the processor is, loop by loop", "samples-host.json", sampled),
    ("What each network executes, emulated Cortex-A72", "layers-rasp4.json", board_layers),
    *(
        (f"Hot loops on the Cortex-A72, {model}", f"hotloops-rasp4-{model}.json", hot_loops)
        for model in ("squeezenet1_1", "mobilenet")
    ),
)

PLOTS: dict[str, tuple[str, Callable[[dict[str, Any], Path], None]]] = {
    "peers.json": ("peers-host.png", plot_peers),
    "tuning.json": ("tuning-host.png", plot_tuning),
}


if __name__ == "__main__":
    main()

"""Write the README's figures from the results of the other benchmarks.

    python benchmarks/readme.py

Only files are taken that name their commit, machine and day, all of one commit.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

import performance
import results_file
from emulated import millions
from engines.report import DISTURBED, marked
from engines.results import OURS
from results_file import Result

from tvm_eff.cli.run import run
from tvm_eff.errors import UsageError

BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"
WIDTH = 100


def main(argv: list[str] | None = None) -> int:
    """Replace what stands between the two marks."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    readme = arguments.readme
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise UsageError(f"{readme} has no place for figures, between {BEGIN.strip()} and {END}")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    found = {each: sorted(arguments.results.glob(each)) for each in TABLES}
    paths = [path for each in found.values() for path in each]
    results = results_file.read_all(paths, arguments.allow_mixed)
    tables = [
        "\n".join(table(results[path.name])) + "\n"
        for pattern, table in TABLES.items()
        for path in found[pattern]
    ]
    readme.write_text(before + BEGIN + "\n".join(tables) + END + after)


def emulated_table(result: Result) -> list[str]:
    """Return the instructions of one target's models."""
    rows = result.data["models"]
    lines = [
        *_wrapped(
            f"Million executed instructions an inference, {rows[0]['where']}, for "
            f"{result.data['target']}; not latencies. {result.provenance} The times are that "
            "machine's."
        ),
        "",
        "| model | kernels unscheduled | tuned, end to end | largest error | cold | with records |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {millions(row['instructions_before'])} "
            f"| {row['instructions'] / 1e6:.1f} | {row['largest_error']:.1e} of the spread "
            f"| {row['seconds_cold']:.0f} s | {row['seconds_with_records']:.0f} s |"
        )
    return lines


def peers_table(result: Result) -> list[str]:
    """Return the latencies of all models on the host, beside the best peer's."""
    rows = [row for row in result.data["rows"] if row["batch"] == 1]
    engines = list(dict.fromkeys(name for row in rows for name in row["engines"]))
    text = (
        "Latency in ms (p50), batch 1, float32, the engines of a row taking turns. "
        f"{result.provenance} More in [docs/performance.md](docs/performance.md)."
    )
    if any(row.get("disturbed") for row in rows):
        text += f" {DISTURBED}: the machine was never quiet."
    lines = [
        *_wrapped(text),
        "",
        f"| model | threads | {' | '.join(engines)} | ratio to the best other |",
        f"|---|---|{'---|' * len(engines)}---|",
    ]
    for row in sorted(rows, key=lambda row: (row["model"], row["threads"])):
        cells = [row["engines"].get(name, {}).get("p50_ms") for name in engines]
        texts = ["-" if cell is None else f"{cell:.2f}" for cell in cells]
        ratio = row["engines"].get(OURS, {}).get("ratio_to_best_peer")
        texts.append("-" if ratio is None else f"{ratio:.2f}")
        lines.append(f"| {marked(row)} | {row['threads']} | {' | '.join(texts)} |")
    return lines


def opencl_table(result: Result) -> list[str]:
    """Return what a device in the place of a GPU took, with our schedules and TVM's."""
    text, *table = performance.opencl(result)
    return [*_wrapped(f"{text} {result.provenance}"), *table]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


TABLES = {
    "emulated-*.json": emulated_table,
    "peers.json": peers_table,
    "opencl-*-mali*.json": opencl_table,
}
"""What shows the files of each pattern."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", type=Path, default=results_file.ROOT / "README.md")
    results_file.add_reading_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""``records``: what is on record, and how it is made small enough to ship."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run

if TYPE_CHECKING:
    from tvm_eff.tune.records.prune import Folder

KEEP = 3


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    from tvm_eff import paths
    from tvm_eff.tune.records import prune

    logs = arguments.logs or paths.tuning_logs()
    if arguments.verb == "list":
        found = prune.survey(logs)
    else:
        output = arguments.output or paths.tuning_logs()
        found = prune.prune(logs, _log_name(arguments.target, logs), output, arguments.keep)
    if arguments.json:
        print(json.dumps([asdict(each) for each in found]))
        return
    _print(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tvm-eff records", description="List tuning records, or prune them to ship."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--logs", type=Path, help="the folder of records to read (default: tuning_logs)"
    )
    shared.add_argument("--json", action="store_true", help="print the table as JSON")
    verbs.add_parser("list", parents=[shared], help="say what is on record")
    prune = verbs.add_parser(
        "prune",
        parents=[shared],
        help="merge the best candidates of each workload into a folder of records",
    )
    prune.add_argument(
        "--target",
        required=True,
        help="a target's name, the path of its .toml file, or the name of its folder of "
        "records, such as host-avx2",
    )
    prune.add_argument(
        "--keep",
        type=positive,
        default=KEEP,
        help="candidates to keep of each workload, beside the kernel as imported "
        "(default: %(default)s)",
    )
    prune.add_argument(
        "--output", type=Path, help="the folder of records to merge into (default: tuning_logs)"
    )
    return parser


def _log_name(target: str, logs: Path) -> str:
    """A folder of another machine's instruction set is no target that can be loaded here."""
    if Path(target).name == target and (logs / target).is_dir():
        return target
    from tvm_eff import targets

    return targets.load(target).log_name


def _print(found: list[Folder]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    for heading in ("target", "unit"):
        table.add_column(heading, no_wrap=True)
    for heading in ("workloads", "candidates", "pruned", "bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("measured on")
    for each in found:
        counts = (each.workloads, each.candidates, each.pruned, each.size)
        table.add_row(each.target, each.unit, *(f"{n:,}" for n in counts), "\n".join(each.machines))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    sys.exit(main())

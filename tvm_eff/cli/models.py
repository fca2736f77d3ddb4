"""``models``: the zoo, with what each network costs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tvm_eff.cli.run import run


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    rows = _rows()
    if arguments.json:
        print(json.dumps(rows))
        return
    _print(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tvm-eff models",
        description="List the models that --model knows by name. MobileNets also come with a "
        "width and a resolution in their name, such as mobilenet_0.5_160.",
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    return parser


def _rows() -> list[dict[str, Any]]:
    from tvm_eff import models

    rows = []
    for name in models.names():
        spec = models.spec(name)
        parameters, macs = models.count(models.outline(name))
        rows.append(
            {
                "name": name,
                "parameters": parameters,
                "macs": macs,
                "input_shape": spec.input_shape,
                "paper": spec.paper,
                "summary": spec.summary,
            }
        )
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    table.add_column("model", no_wrap=True)
    for heading in ("parameters", "MACs, M", "input"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("paper", no_wrap=True)
    table.add_column("what it is")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e6:.1f}",
            "x".join(map(str, row["input_shape"][2:])),
            row["paper"],
            row["summary"],
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    sys.exit(main())

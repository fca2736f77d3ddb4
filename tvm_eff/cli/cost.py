"""``cost``: what a network costs on paper, layer by layer."""

from __future__ import annotations

import argparse
import json
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tvm_eff.cli.model_options import MODEL_HELP, add_model_options, network
from tvm_eff.cli.run import run

if TYPE_CHECKING:
    from rich.table import Table

    from tvm_eff.models.cost import Cost
    from tvm_eff.models.saving import Saving

DESCRIPTION = """Count a network's parameters, multiply-accumulates (MACs), bytes of weights and
activations, arithmetic intensity and peak activation memory, layer by layer. Where a layer is a
paper's cheaper one, its formula stands beside the count."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    # Late, so that --help and a mistyped option need not wait for torch.
    from tvm_eff import models

    cost = models.account(network(arguments))
    if arguments.json:
        print(json.dumps(_as_json(cost)))
        return
    _print(cost)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tvm-eff cost", description=DESCRIPTION)
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_model_options(parser)
    return parser


def _print(cost: Cost) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(_layers(cost))
    if cost.factorized:
        console.print(_savings(cost.factorized))
        console.print(
            "exact: formula and counts are the same fraction. Weights are the convolutions' alone, "
            "as in the formulas;",
            "all param. has biases and batch norm too.",
            highlight=False,
        )
    for line in (
        f"parameters        {cost.parameters:,} trained, {cost.buffers:,} kept beside them",
        f"MACs              {cost.macs:,} in convolutions, dense layers and matrix products, "
        "zero padding included",
        f"weights           {_mib(cost.weight_bytes)} of parameters",
        f"activations       {_mib(cost.activation_bytes)} read and written by all operators",
        f"peak              {_mib(cost.peak_activation_bytes)} of activations at one time, "
        "operators one by one, unfused",
        f"intensity         {cost.arithmetic_intensity:.1f} floating-point operations a byte",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _layers(cost: Cost) -> Table:
    table = _table(f"{cost.name}, layer by layer")
    # What does not fit goes on in the next line; figures never do.
    table.add_column("layer", overflow="fold")
    table.add_column("operator", overflow="fold")
    for heading in ("output", "parameters", "MACs", "weights KiB", "act. KiB", "FLOP/B"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in cost.layers:
        table.add_row(
            layer.path or "-",
            layer.operator,
            "x".join(map(str, layer.output_shape)),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.macs:,}" if layer.macs else "",
            _kib(layer.weight_bytes) if layer.weight_bytes else "",
            _kib(layer.activation_bytes),
            f"{layer.arithmetic_intensity:.1f}" if layer.macs else "",
        )
    table.add_section()
    table.add_row(
        "total",
        "",
        "",
        f"{cost.parameters:,}",
        f"{cost.macs:,}",
        _kib(cost.weight_bytes_read),
        _kib(cost.activation_bytes),
        f"{cost.arithmetic_intensity:.1f}",
    )
    return table


def _savings(found: tuple[Saving, ...]) -> Table:
    table = _table("factorized layers, as a fraction of the standard ones")
    for heading in ("layer", "kind", "formula"):
        table.add_column(heading, overflow="fold")
    for heading in ("value", "MACs", "weights", "all param."):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("agreement", overflow="fold")
    rows: dict[tuple[Any, ...], list[str]] = {}
    for each in found:
        counted = (each.macs, each.weights, each.parameters)
        row = (each.kind, each.formula.text, each.formula.ratio, *counted, each.verdict)
        rows.setdefault(row, []).append(each.path or "-")
    for (kind, text, *values, verdict), paths in rows.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        table.add_row(paths[0] + more, kind, text, *map(_share, values), verdict)
    return table


def _table(title: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    # Every operator has its row, so nothing is to be gained from space between columns.
    return Table(title=title, box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0))


def _share(value: Fraction) -> str:
    return f"{float(value):.5f}"


def _kib(size: int) -> str:
    return f"{size / 1024:.1f}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.2f} MiB"


def _as_json(cost: Cost) -> dict[str, Any]:
    return {
        "model": cost.name,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "buffers": cost.buffers,
        "weight_bytes": cost.weight_bytes,
        "activation_bytes": cost.activation_bytes,
        "peak_activation_bytes": cost.peak_activation_bytes,
        "arithmetic_intensity": cost.arithmetic_intensity,
        "layers": [
            {**vars(layer), "arithmetic_intensity": layer.arithmetic_intensity}
            for layer in cost.layers
        ],
        "factorized": [
            {
                "path": each.path,
                "kind": each.kind,
                "input_shape": each.input_shape,
                "formula": each.formula.text,
                "source": each.formula.source,
                "departures": each.formula.departures,
                "predicted": str(each.formula.ratio),
                "macs": str(each.macs),
                "weights": str(each.weights),
                "parameters": str(each.parameters),
                "verdict": each.verdict,
            }
            for each in cost.factorized
        ],
    }


if __name__ == "__main__":
    sys.exit(main())

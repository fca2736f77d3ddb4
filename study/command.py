"""``study``: what factorized layers save on paper, and what of it a target delivers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_eff.cli.arguments import positive
from tvm_eff.cli.board_options import add_key_options, key_of
from tvm_eff.cli.run import run

if TYPE_CHECKING:
    from study import LayerShape, Study

DESCRIPTION = """\
Put the layers of five families of efficient networks beside the standard layers they
stand for, over a grid of shapes: how many times fewer multiply-accumulates they have,
how many times faster their tuned libraries are on a target, and which fraction of the
saving that delivers. Every library is checked against PyTorch before it is timed.
Without --rpc, the host measures itself and a board is emulated: then figures are ratios
of executed instructions, never speed-ups. Interrupted with Ctrl-C, the same command goes
on where tuning stopped."""

_QUICK_TRIALS = 8


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    # Late, so that --help and a mistyped option need not wait for TVM.
    import study
    from tvm_eff import targets
    from tvm_eff.cli import interrupt
    from tvm_eff.progress import RichProgress
    from tvm_eff.tune import TuneOptions

    target = targets.load(arguments.target)
    trials = arguments.trials or (_QUICK_TRIALS if arguments.quick else None)
    options = study.StudyOptions(
        target=arguments.target,
        families=arguments.families or study.FAMILIES,
        shapes=_shapes(arguments),
        rpc=arguments.rpc,
        key=key_of(arguments),
        logs=arguments.logs,
        output=arguments.output or Path("dist") / f"study-{target.name}",
        rounds=arguments.rounds or study.ROUNDS,
        tune=TuneOptions(trials=trials, workers=arguments.workers),
    )
    with RichProgress(on_event=interrupt.check) as progress:
        found = study.run(options, progress)
    written = study.write(found, options.output)
    if arguments.json:
        print(json.dumps(found.as_dict()))
        return
    _print(found, written)


def _shapes(arguments: argparse.Namespace) -> tuple[LayerShape, ...]:
    import study

    if arguments.sizes:
        return tuple(study.LayerShape(*numbers) for numbers in arguments.sizes)
    return study.QUICK_SHAPES if arguments.quick else study.DEFAULT_SHAPES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m study", description=DESCRIPTION)
    parser.add_argument(
        "--target", required=True, help="a target's name, or the path of its .toml file"
    )
    parser.add_argument(
        "--families",
        nargs="+",
        metavar="FAMILY",
        help="squeezenet, mobilenet, xception, flattened, factorized (default: all)",
    )
    grid = parser.add_mutually_exclusive_group()
    grid.add_argument(
        "--sizes",
        nargs="+",
        type=_size,
        metavar="IN,OUT,SIZE[,KERNEL[,STRIDE]]",
        help="shapes of the standard layer: channels in and out, height and width of the input, "
        "of the filters (default: 3), stride (default: 1), such as 64,128,56,3,2 "
        "(default: seven shapes, as in the papers' networks)",
    )
    grid.add_argument(
        "--quick", action="store_true", help="two small shapes, half as many candidates"
    )
    parser.add_argument(
        "--rpc", metavar="HOST:PORT", help="measure on a real board's RPC server, in seconds"
    )
    add_key_options(parser)
    parser.add_argument(
        "--trials",
        type=positive,
        help="candidates to measure of each kernel, at most "
        "(default: 16 in seconds, 8 in instructions)",
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        metavar="N",
        help="how often the two libraries of a pair take turns (default: 9; instructions are "
        "counted once)",
    )
    parser.add_argument("--workers", type=positive, help="builder processes (default: one a core)")
    parser.add_argument("--logs", type=Path, help="the folder of records (default: tuning_logs)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="the folder for study.json, study.md and study.png (default: dist/study-TARGET)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print what study.json holds instead of the table"
    )
    return parser


_LARGEST = 4096


def _size(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not 3 <= len(numbers) <= 5 or min(numbers) < 1 or max(numbers) > _LARGEST:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a shape; write IN,OUT,SIZE[,KERNEL[,STRIDE]] in whole numbers of "
            f"1 to {_LARGEST}, such as 64,128,56,3,2"
        )
    return numbers


def _print(found: Study, written: list[Path]) -> None:
    from rich.console import Console

    from study import report

    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(report.table(found))
    console.print(report.summary(found))
    for line in (
        *report.legend(found),
        f"measured on {found.where}",
        f"written: {', '.join(map(str, written))}",
    ):
        console.print(line, highlight=False, soft_wrap=True)

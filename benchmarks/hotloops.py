"""A static check of our kernels' hot loops against the issue limits of an Arm core.

    python benchmarks/hotloops.py --target rasp4 --model squeezenet1_1

Executed instructions are no cycles: this looks at the innermost loops that do the
multiply-adds, in the assembly of each kernel built with its recorded schedule, and
asks how many instructions each multiply-add takes, whether registers are spilled, and
what the loop takes by LLVM's scheduling model of the core (llvm-mca, which is fetched).
The figures are reported and not judged: a table is printed, and --json writes what it is
made of, with the assembly of the loops that miss what is wanted.

    python benchmarks/hotloops.py --layers rasp4 rasp3 rasp5

compares dtypes and cores by single layers, which need no records: executed instructions do not,
since what multiplies bytes and what sums their products may start in one cycle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import results_file
from loops.kernels import kernels
from loops.layers import layer_loops, layers
from loops.mca import version
from loops.report import layer_row_of, layers_markdown, markdown, row_of

from tvm_eff import api, models, passes, targets
from tvm_eff.cli.run import run
from tvm_eff.errors import UsageError
from tvm_eff.targets import Target


def main(argv: list[str] | None = None) -> int:
    """Check the model that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    found = [_known(name) for name in arguments.layers or [arguments.target]]
    if arguments.layers:
        run_now = results_file.begin(__file__, argv)
        data, written = _layers(found), layers_markdown
    else:
        models.spec(arguments.model)
        passes.require_dtype(found[0], arguments.dtype)
        run_now = results_file.begin(__file__, argv)
        data, written = _network(found[0], arguments), markdown
    result = run_now.with_data(data)
    print(written(result))
    if arguments.json is not None:
        result.write(arguments.json)


def _known(name: str) -> Target:
    """Return a target whose loops are read."""
    target = targets.load(name)
    if not target.tvm["mtriple"].startswith("aarch64"):
        raise UsageError(
            f"target {name} is {target.tvm['mtriple']}, and only loops of 64-bit Arm are known"
        )
    return target


def _network(target: Target, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the loops of a network's kernels, with the schedules on record."""
    triple, cpu = target.tvm["mtriple"], target.tvm["mcpu"]
    about = {"target": target.name, "model": arguments.model, "dtype": arguments.dtype}
    about |= {"cpu": cpu, "mca": version()}
    rows = []
    logs = arguments.logs or api.default_logs(target)
    for kernel in kernels(arguments.model, target, logs, arguments.dtype):
        _say(kernel.label)
        rows.append(row_of(kernel, triple, cpu))
    return {**about, "rows": rows}


def _layers(found: Sequence[Target]) -> dict[str, Any]:
    """Return the loops of single layers, by their first candidates."""
    about = {"mca": version()}
    rows = []
    for loop in layer_loops(layers(), found):
        _say(f"{loop.layer}, {loop.cpu}, {loop.dtype}")
        rows.append(layer_row_of(loop))
    return {**about, "layers": rows}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="rasp4", help="default: %(default)s")
    parser.add_argument("--model", default="squeezenet1_1", help="default: %(default)s")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        metavar="TARGET",
        help="instead of a network: layers on these targets, in every dtype that they compute in, "
        "as their first candidates compute them, without records",
    )
    parser.add_argument("--logs", type=Path, help="the folder of records (default: tune.py's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


if __name__ == "__main__":
    sys.exit(main())

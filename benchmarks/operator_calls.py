"""Calls of PyTorch's operators by chance: imported right, or refused by name.

    python benchmarks/operator_calls.py --calls 2000

Each number is a call with its own arguments, dtypes and shapes. A call that PyTorch itself or
torch.export does not take is left out. Of the others each is proved as an import is (noise, values
from 0 to 1 and 0 to 255, limits of integers, ones), or refused with a message that names the
operator. What is wrong, and what raises something else, is named: --only NUMBER.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from tvm_eff import frontend
from tvm_eff.cli.run import run
from tvm_eff.deploy.proof import prove
from tvm_eff.errors import Error, ModelError, UsageError
from tvm_eff.models import Network, Program, trace
from tvm_eff.tensors import varied_inputs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from calls import Call, Called, call

TOGETHER = 40
"""How many calls are compiled together."""


def main(argv: list[str] | None = None) -> int:
    """Try the calls and name those that are wrong."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2000, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER")
    parser.add_argument("--only", type=int, metavar="NUMBER")
    parser.add_argument("--refused", action="store_true", help="print what is refused as well")
    arguments = parser.parse_args(argv)
    numbers: Sequence[int] = range(arguments.first, arguments.first + arguments.calls)
    if arguments.only is not None:
        numbers = [arguments.only]
    outcomes, lines = try_calls(numbers)
    if arguments.refused:
        print("\n".join(lines["refused"]))
    print(", ".join(f"{count} {kind}" for kind, count in sorted(outcomes.items())))
    if lines["wrong"]:
        raise UsageError("calls that are wrong:\n" + "\n".join(lines["wrong"]))


def try_calls(numbers: Sequence[int]) -> tuple[Counter[str], dict[str, list[str]]]:
    """Try calls by their numbers.

    Returns
    -------
    tuple
        How many are right, refused, left out and wrong; and a line for each that is refused or
        wrong.
    """
    outcomes: Counter[str] = Counter()
    lines: dict[str, list[str]] = {"refused": [], "wrong": []}
    waiting: list[Call] = []
    for number in numbers:
        made = call(number)
        kind, why = _imported(made)
        if kind != "right":
            outcomes[kind] += 1
            lines.setdefault(kind, []).append(f"{made}: {why}")
            continue
        waiting.append(made)
        if len(waiting) == TOGETHER:
            _prove(waiting, outcomes, lines)
            waiting = []
    if waiting:
        _prove(waiting, outcomes, lines)
    return outcomes, lines


def _imported(made: Call) -> tuple[str, str]:
    """Whether a call can be imported at all, and why not."""
    torch.manual_seed(0)
    try:
        program = _program([made])
    except ModelError as error:
        return "left out", str(error)
    try:
        frontend.import_program(program)
    except ModelError as error:
        return "refused" if "operator '" in str(error) else "wrong", str(error)
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {str(error)[:300]}"
    return "right", ""


def _prove(calls: list[Call], outcomes: Counter[str], lines: dict[str, list[str]]) -> None:
    """Prove calls together, and in halves if something is wrong."""
    try:
        program = _program(calls)
        prove(program, frontend.decompose(program), varied_inputs(program.network.inputs))
    except Exception as error:
        if len(calls) > 1:
            middle = len(calls) // 2
            _prove(calls[:middle], outcomes, lines)
            _prove(calls[middle:], outcomes, lines)
            return
        left_out = "rejects all inputs" in str(error)
        kind = "left out" if left_out else "wrong"
        known = "" if isinstance(error, Error) else f"{type(error).__name__}: "
        outcomes[kind] += 1
        lines.setdefault(kind, []).append(f"{calls[0]}: {known}{str(error)[:400]}")
        return
    outcomes["right"] += len(calls)


def _program(calls: Sequence[Call]) -> Program:
    specs = tuple(spec for each in calls for spec in each.inputs)
    return trace(Network("calls", Called(calls).eval(), specs))


if __name__ == "__main__":
    sys.exit(main())

"""Whole small networks by chance: right the whole way, or refused by name.

    python benchmarks/random_networks.py --count 300

Each number is a network (tests/generated_networks.py). It is exported, imported, proved, lowered,
built with the most promising schedule of every kernel, and compared with PyTorch on several inputs.
What is wrong, and what raises something that is no message, is named: --only NUMBER.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from whole_networks import Outcome, attempt  # isort: skip
from generated_networks import network  # isort: skip

from tvm_eff.cli.run import run
from tvm_eff.device import LocalDevice
from tvm_eff.errors import UsageError


def main(argv: list[str] | None = None) -> int:
    """Try the networks and name those that are wrong."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER")
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER")
    parser.add_argument("--unscheduled", action="store_true", help="build without our schedules")
    arguments = parser.parse_args(argv)
    numbers: Sequence[int] = range(arguments.first, arguments.first + arguments.count)
    numbers = arguments.only or numbers
    counts: Counter[str] = Counter()
    failing = []
    for number, outcome in try_networks(numbers, scheduled=not arguments.unscheduled):
        counts[outcome.kind] += 1
        print(f"{number}: {outcome}", flush=True)
        failing += [str(number)] if outcome.kind in ("wrong", "crashed") else []
    print(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    if failing:
        raise UsageError(f"networks that are wrong: --only {' '.join(failing)}")


def try_networks(
    numbers: Sequence[int], *, scheduled: bool = True
) -> Iterator[tuple[int, Outcome]]:
    """Try networks by their numbers, and yield what became of each."""
    with LocalDevice() as device:
        for number in numbers:
            yield number, attempt(network(number), device, scheduled=scheduled)


if __name__ == "__main__":
    sys.exit(main())

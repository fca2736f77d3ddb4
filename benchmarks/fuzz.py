"""Damaged files of every kind that is read: each is taken or refused, whatever is in it.

    python benchmarks/fuzz.py --mutations 10000

Bundles, their manifests and golden outputs, records, targets, weights and saved programs are
changed by chance and read. What is wrong with a file is one of our errors, within ten seconds;
there is no other exception, no crash, and no code of a library runs that was refused. Each
mutation is a number, from which it can be made again: --only NUMBER.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuzzing.subjects import SECONDS

from tvm_eff.cli.run import run
from tvm_eff.errors import UsageError

WORKER = Path(__file__).parent / "fuzzing" / "worker.py"
FOUND: tuple[int, ...] = (3744, 7194, 7781)
"""Mutations that once found a defect: they are always tried."""


def main(argv: list[str] | None = None) -> int:
    """Try the mutations and name those that found something."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutations", type=int, default=10_000, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this one, with its traceback")
    arguments = parser.parse_args(argv)
    if arguments.only is not None:
        numbers = [arguments.only]
    else:
        wanted = range(arguments.first, arguments.first + arguments.mutations)
        numbers = [*(each for each in FOUND if each not in wanted), *wanted]
    outcomes, defects = fuzz(numbers)
    print(f"{len(numbers)} mutations: " + ", ".join(f"{n} {each}" for each, n in outcomes.items()))
    if defects:
        raise UsageError("defects found:\n" + "\n".join(defects))


def fuzz(numbers: Sequence[int]) -> tuple[Counter[str], list[str]]:
    """Try mutations in processes of their own.

    Returns
    -------
    tuple
        How many files were taken and refused, and a line for each defect.
    """
    outcomes: Counter[str] = Counter()
    defects: list[str] = []
    left = list(numbers)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        while left:
            done = _worker(left, Path(folder), outcomes, defects)
            left = left[done:]
    return outcomes, defects


def _worker(
    numbers: Sequence[int], folder: Path, outcomes: Counter[str], defects: list[str]
) -> int:
    """Have a process try the numbers until it is done or dies; return how many it tried."""
    with subprocess.Popen(
        [sys.executable, str(WORKER), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        tried = 0
        for number in numbers:
            try:
                process.stdin.write(f"{number}\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
            tried += 1
            if not line:
                code = process.wait()
                # Its alarm ends it: that is -14.
                what = f"it took longer than {SECONDS} s" if code == -14 else f"it crashed ({code})"
                defects.append(f"{number}: {what}")
                return tried
            outcome = json.loads(line)
            outcomes[outcome["kind"]] += 1
            if outcome["kind"] not in ("taken", "refused"):
                defects.append(f"{number}: {outcome['what']}")
        process.stdin.close()
    return tried


if __name__ == "__main__":
    sys.exit(main())

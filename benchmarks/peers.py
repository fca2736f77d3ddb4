"""Latency on this machine: our library and its peers, in one run.

    python3 -m venv benchmarks/.venv
    benchmarks/.venv/bin/pip install -r benchmarks/requirements.txt
    python benchmarks/peers.py --models squeezenet1_1 --threads 1 2 --batch 1 8

The peers live in an environment of their own, so that they cannot change a package
that ours needs. For every model, batch and number of threads, each engine gets the
same weights, the same input and the same cores in a process of its own, its output
is compared with PyTorch's, and those that are right are timed in turns. An engine
that is not installed or fails is reported with its reason. Results go to peers.json,
peers.md and peers.png in --output, after each comparison; nothing else should run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from engines import report
from engines.base import ENGINES, Engine
from engines.peak import Peak
from engines.results import OURS, row_of
from engines.turns import Comparison, Options, Outcome, compare
from engines.workload import Tuned, Workload, prepare, tune

from tvm_eff import models
from tvm_eff.cli.arguments import one_of, positive
from tvm_eff.cli.run import INTERRUPTED, run
from tvm_eff.errors import UsageError

BENCHMARKS = Path(__file__).resolve().parent
PEERS_PYTHON = BENCHMARKS / ".venv" / "bin" / "python"


def main(argv: list[str] | None = None) -> int:
    """Compare the engines that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    available = sorted(os.sched_getaffinity(0))
    arguments.threads = arguments.threads or sorted({1, len(available)})
    _check(arguments, len(available))
    arguments.output.mkdir(parents=True, exist_ok=True)
    book = Book(arguments.output, _heading(arguments.rounds, len(available)))
    if arguments.resume:
        book.read()
    peak = Peak()
    try:
        for model, batch in itertools.product(arguments.models, arguments.batch):
            missing = [n for n in arguments.threads if not book.has(model, batch, n)]
            if missing:
                _compare(model, batch, missing, available, peak, arguments, book)
    except KeyboardInterrupt:
        _say(f"interrupted; {len(book.result['rows'])} rows are in {book.path}: --resume goes on")
        return INTERRUPTED
    print(book.path.with_suffix(".md").read_text())
    print(f"written to {book.path} and beside it")
    return 0


def _check(arguments: argparse.Namespace, cores: int) -> None:
    """Find out before the first hour what the last would stumble on."""
    if max(arguments.threads) > cores:
        raise UsageError(f"--threads {max(arguments.threads)}: only {cores} cores may be used here")
    if not arguments.peers_python.is_file():
        raise UsageError(
            f"--peers-python {arguments.peers_python}: there is no such file; "
            f"see {Path(__file__).name} --help"
        )
    for model in arguments.models:
        models.spec(model)


def _compare(
    model: str,
    batch: int,
    threads: Sequence[int],
    available: Sequence[int],
    peak: Peak,
    arguments: argparse.Namespace,
    book: Book,
) -> None:
    """Compare all engines on one model and batch, once for each number of threads."""
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = Path(name)
        _say(f"{model}, batch {batch}: tracing it")
        workload = prepare(model, batch, folder / "workload")
        libraries = Libraries(workload, arguments)
        for count in threads:
            cores = tuple(available[:count])
            tuned = libraries.get(cores, available) if OURS in arguments.engines else Tuned(None)
            peak_flops = peak.measure(cores)
            options = Options(
                rounds=arguments.rounds,
                turn_s=arguments.turn,
                timeout_s=arguments.timeout,
                peers_python=arguments.peers_python,
                logs=folder,
                engine_budget_s=arguments.engine_budget,
            )
            engines = [each for each in ENGINES if each.name in arguments.engines]
            what = f"{model}, batch {batch}, threads {count}"
            found = _run(workload, engines, cores, tuned, options, what)
            row = row_of(
                found,
                model=model,
                shape=workload.shape,
                threads=count,
                macs=workload.macs,
                peak_flops=peak_flops,
            )
            book.add({**row, "date": date.today().isoformat(), **_tuning(tuned)})


def _run(
    workload: Workload,
    engines: Sequence[Engine],
    cores: tuple[int, ...],
    tuned: Tuned,
    options: Options,
    what: str,
) -> Comparison:
    """Compare the engines; ours has failed already if there is no library."""
    jobs = {
        engine: workload.job(engine, cores, tuned.bundle)
        for engine in engines
        if engine.name != OURS or tuned.failure is None
    }
    found = compare(jobs, workload.expected, options, lambda text: _say(f"{what}: {text}"))
    if tuned.failure is None:
        return found
    return Comparison({OURS: Outcome(failure=tuned.failure), **found.outcomes}, found.other_load)


class Libraries:
    """Our libraries for one workload, built when they are first needed."""

    def __init__(self, workload: Workload, arguments: argparse.Namespace) -> None:
        self._workload = workload
        self._logs: Path | None = arguments.logs
        self._each = arguments.tune_each
        self._arguments = shlex.split(arguments.tune)
        self._made: dict[tuple[int, ...], Tuned] = {}

    def get(self, cores: Sequence[int], available: Sequence[int]) -> Tuned:
        """Return the one for all cores, or one made for these cores with --tune-each."""
        wanted = tuple(cores if self._each else available)
        if wanted not in self._made:
            logs = self._logs
            if self._each and logs is not None:
                # Records of one number of cores are wrong for another.
                logs = logs / f"cores-{len(wanted)}"
            _say(f"{self._workload.model}, batch {self._workload.shape[0]}: our library")
            self._made[wanted] = tune(self._workload, logs, wanted, self._arguments)
        return self._made[wanted]


@dataclass
class Book:
    """The files of results, whole after every row."""

    folder: Path
    result: dict[str, Any]

    @property
    def path(self) -> Path:
        """The JSON file."""
        return self.folder / "peers.json"

    def read(self) -> None:
        """Keep what a former run on this machine has finished."""
        if not self.path.exists():
            return
        former = json.loads(self.path.read_text())
        for key in ("machine", "cores", "rounds"):
            if former[key] != self.result[key]:
                raise UsageError(
                    f"{self.path} has {key} {former[key]}, and this run {self.result[key]}; "
                    "leave --resume out to start afresh"
                )
        self.result["rows"] = former["rows"]

    def has(self, model: str, batch: int, threads: int) -> bool:
        """Whether there is a row already."""
        key = (model, batch, threads)
        return any((r["model"], r["batch"], r["threads"]) == key for r in self.result["rows"])

    def add(self, row: dict[str, Any]) -> None:
        """Add a row and write all files."""
        self.result["rows"].append(row)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.result, indent=1) + "\n")
        part.rename(self.path)
        self.path.with_suffix(".md").write_text(report.markdown(self.result))
        report.plot(self.result, self.path.with_suffix(".png"))


def _heading(rounds: int, cores: int) -> dict[str, Any]:
    from tvm_eff.device.local import processor

    return {
        "machine": processor(),
        "cores": cores,
        "date": date.today().isoformat(),
        "rounds": rounds,
        "rows": [],
    }


def _tuning(tuned: Tuned) -> dict[str, Any]:
    return {
        "tuned_for_cores": tuned.cores,
        "tuning_seconds": tuned.seconds,
        "candidates": tuned.candidates,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [engine.name for engine in ENGINES]
    parser.add_argument("--models", nargs="+", default=models.names(), help="default: the zoo")
    parser.add_argument("--threads", nargs="+", type=positive, help="default: 1 and all cores")
    parser.add_argument("--batch", nargs="+", type=positive, default=[1, 8])
    parser.add_argument("--engines", nargs="+", type=one_of("engine", names), default=names)
    parser.add_argument("--rounds", type=positive, default=20, help="turns of each engine")
    parser.add_argument(
        "--turn", type=float, default=0.2, metavar="S", help="seconds of timed calls in a turn"
    )
    parser.add_argument(
        "--engine-budget",
        type=float,
        default=20,
        metavar="S",
        help="seconds that all turns of one engine may take for one row; a slow engine takes "
        "fewer of them, but three (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout", type=float, default=600, metavar="S", help="seconds to convert, load or answer"
    )
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=PEERS_PYTHON if PEERS_PYTHON.exists() else Path(sys.executable),
        help="the Python with benchmarks/requirements.txt (default: %(default)s)",
    )
    parser.add_argument("--logs", type=Path, help="records for our library (default: tune.py's)")
    parser.add_argument(
        "--tune", default="", metavar="ARGUMENTS", help="further arguments of tune.py, in one word"
    )
    parser.add_argument(
        "--tune-each",
        action="store_true",
        help="tune our library for each number of threads, instead of once for all cores",
    )
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results")
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows that --output has already"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

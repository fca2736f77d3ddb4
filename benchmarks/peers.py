"""Latency on this machine: our library and its peers, in one run.

    python3 -m venv benchmarks/.venv
    benchmarks/.venv/bin/pip install -r benchmarks/requirements.txt
    python benchmarks/peers.py --models squeezenet1_1 --threads 1 2 --batch 1 8

The peers live in an environment of their own, so that they cannot change a package
that ours needs. For every model, batch and number of threads, each engine gets the
same weights, the same input and the same cores in a process of its own, its output
is compared with PyTorch's, and those that are right are timed in turns. An engine
that is not installed or fails is reported with its reason. Nothing else should run: a
row during which the machine was not quiet is timed again, and is marked if it never was.
Results go to peers.json, peers.md and peers.png in --output, in the place of those of an
earlier run, after each comparison.

    python benchmarks/peers.py --dtype int8 --models squeezenet1_1 mobilenet

Each engine is quantized by its own tools on the same images, and its error is that to PyTorch in
float32. Our float32 stands beside it. Results are named peers-int8.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import results_file
from engines import report
from engines.base import ENGINES, Engine, Job
from engines.peak import Peak
from engines.peers_python import add_peers_python, require_peers_python
from engines.results import OURS, OURS_IN_FLOAT32, Row, row_of
from engines.turns import (
    QUANTIZED_TOLERANCE,
    TOLERANCE,
    Comparison,
    Options,
    Outcome,
    compare,
)
from engines.workload import Tuned, TuneOptions, Workload, add_tune_options, prepare, tune
from results_file import Result

from tvm_eff import models
from tvm_eff.cli.arguments import one_of, positive
from tvm_eff.cli.run import INTERRUPTED, run
from tvm_eff.errors import UsageError


def main(argv: list[str] | None = None) -> int:
    """Compare the engines that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    available = sorted(os.sched_getaffinity(0))
    arguments.threads = arguments.threads or sorted({1, len(available)})
    arguments.batch = arguments.batch or ([1, 8] if arguments.dtype == "float32" else [1])
    able = [each.name for each in ENGINES if arguments.dtype in each.dtypes]
    arguments.engines = arguments.engines or able
    _check(arguments, len(available))
    run_now = results_file.begin(__file__, argv)
    rows: list[Row] = []
    peak = Peak()
    path = arguments.output / f"{_name(arguments.dtype)}.json"
    try:
        for model, batch in itertools.product(arguments.models, arguments.batch):
            for row in _compare(model, batch, available, peak, arguments):
                rows.append(row)
                result = run_now.with_data(
                    {"rounds": arguments.rounds, "dtype": arguments.dtype, "rows": rows}
                )
                _write(result, path)
    except KeyboardInterrupt:
        _say(f"interrupted; {len(rows)} rows are in {path}" if rows else "interrupted")
        return INTERRUPTED
    print(path.with_suffix(".md").read_text())
    print(f"written to {path} and beside it")
    return 0


def _name(dtype: str) -> str:
    return "peers" if dtype == "float32" else f"peers-{dtype}"


def _write(result: Result, path: Path) -> None:
    """Write what is finished; a run of all networks takes hours."""
    result.write(path)
    path.with_suffix(".md").write_text(report.markdown(result))
    report.plot(result, path.with_suffix(".png"))


def _check(arguments: argparse.Namespace, cores: int) -> None:
    """Find out before the first hour what the last would stumble on."""
    if max(arguments.threads) > cores:
        raise UsageError(f"--threads {max(arguments.threads)}: only {cores} cores may be used here")
    require_peers_python(arguments.peers_python)
    for each in ENGINES:
        if each.name in arguments.engines and arguments.dtype not in each.dtypes:
            raise UsageError(f"--engines {each.name}: it cannot be asked for {arguments.dtype}")
    if arguments.dtype == "int8" and arguments.batch != [1]:
        raise UsageError("--dtype int8 is compared for --batch 1 alone")
    for model in arguments.models:
        models.spec(model)


def _compare(
    model: str,
    batch: int,
    available: Sequence[int],
    peak: Peak,
    arguments: argparse.Namespace,
) -> Iterator[Row]:
    """Compare all engines on one model and batch: a row for each number of threads."""
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = Path(name)
        _say(f"{model}, batch {batch}: tracing it")
        workload = prepare(model, batch, folder / "workload", arguments.dtype)
        libraries = Libraries(workload, arguments)
        engines = [each for each in ENGINES if each.name in arguments.engines]
        options = Options(
            rounds=arguments.rounds,
            turn_s=arguments.turn,
            timeout_s=arguments.timeout,
            peers_python=arguments.peers_python,
            logs=folder,
            engine_budget_s=arguments.engine_budget,
            attempts=arguments.attempts,
            tolerance=QUANTIZED_TOLERANCE if arguments.dtype == "int8" else TOLERANCE,
        )
        for count in arguments.threads:
            cores = tuple(available[:count])
            built = libraries.get(cores, available) if OURS in arguments.engines else {}
            tuned = built.get(arguments.dtype, Tuned(None))
            peak_flops = peak.measure(cores)
            what = f"{model}, batch {batch}, threads {count}"
            found = _run(workload, engines, cores, built, options, what)
            row = row_of(
                found,
                model=model,
                shape=workload.shape,
                threads=count,
                macs=workload.macs,
                peak_flops=peak_flops,
            )
            yield {**row, **_tuning(tuned)}


def _run(
    workload: Workload,
    engines: Sequence[Engine],
    cores: tuple[int, ...],
    built: Mapping[str, Tuned],
    options: Options,
    what: str,
) -> Comparison:
    """Compare the engines; ours has failed already if there is no library."""
    jobs: dict[Engine, Job] = {}
    failed: dict[str, Outcome] = {}
    for engine in engines:
        if engine.name != OURS:
            jobs[engine] = workload.job(engine, cores, None)
            continue
        for dtype, tuned in built.items():
            name = OURS if dtype == workload.dtype else OURS_IN_FLOAT32
            if tuned.failure is not None:
                failed[name] = Outcome(failure=tuned.failure)
                continue
            own = replace(engine, name=name)
            jobs[own] = workload.job(own, cores, tuned.bundle)
    found = compare(jobs, workload.expected, options, lambda text: _say(f"{what}: {text}"))
    return replace(found, outcomes={**failed, **found.outcomes})


class Libraries:
    """Our libraries for one workload, built when they are first needed."""

    def __init__(self, workload: Workload, arguments: argparse.Namespace) -> None:
        self._workload = workload
        self._logs: Path | None = arguments.logs
        self._each = arguments.tune_each
        self._options = TuneOptions.of(arguments)
        self._made: dict[tuple[int, ...], dict[str, Tuned]] = {}

    def get(self, cores: Sequence[int], available: Sequence[int]) -> dict[str, Tuned]:
        """Return those for all cores, or those made for these cores with --tune-each, by dtype."""
        wanted = tuple(cores if self._each else available)
        if wanted not in self._made:
            logs = self._logs
            if self._each and logs is not None:
                # Records of one number of cores are wrong for another.
                logs = logs / f"cores-{len(wanted)}"
            _say(f"{self._workload.model}, batch {self._workload.shape[0]}: our library")
            self._made[wanted] = {
                each: tune(self._workload, logs, wanted, replace(self._options, dtype=each))
                for each in dict.fromkeys([self._workload.dtype, "float32"])
            }
        return self._made[wanted]


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
    parser.add_argument("--dtype", choices=("float32", "int8"), default="float32")
    parser.add_argument("--models", nargs="+", default=models.names(), help="default: the zoo")
    parser.add_argument("--threads", nargs="+", type=positive, help="default: 1 and all cores")
    parser.add_argument("--batch", nargs="+", type=positive, help="default: 1 and 8")
    parser.add_argument("--engines", nargs="+", type=one_of("engine", names), help="default: all")
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
    add_peers_python(parser)
    parser.add_argument(
        "--attempts",
        type=positive,
        default=3,
        help="how often a row is timed at most, until the machine is quiet (default: %(default)s)",
    )
    add_tune_options(parser)
    parser.add_argument(
        "--tune-each",
        action="store_true",
        help="tune our library for each number of threads, instead of once for all cores",
    )
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())

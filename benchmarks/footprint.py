"""Memory and time of the first inference, from the start of a process: our library and its peers.

    python benchmarks/footprint.py --models squeezenet1_1 mobilenet

Each inference is the only one of a process of its own on one core. Ours is called from C, by a
program that is linked with the library, and from Python; the peers from Python, whose start and
packages count in both columns, since that is how their wheels are used: no peer has a C library on
the package index. Peak memory is the kernel's, of resident pages, those of files too. Engines take
turns; the table shows medians. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import results_file
from engines.base import ENGINES, Engine, Job
from engines.peers_python import add_peers_python, require_peers_python
from engines.process import EngineError, convert, python_of
from engines.workload import TuneOptions, add_tune_options, prepare, tune

from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run
from tvm_eff.codegen import toolchain
from tvm_eff.deploy.bundle import Bundle, read
from tvm_eff.errors import UsageError

BENCHMARKS = Path(__file__).resolve().parent
FROM_C = "tvm_eff from C"
_CONVERT_S = 900.0


@dataclass(frozen=True)
class Once:
    """What one process took.

    Attributes
    ----------
    seconds
        From its start to the end of the inference.
    peak_mb
        The most memory that was resident.
    """

    seconds: float
    peak_mb: float


def main(argv: list[str] | None = None) -> int:
    """Measure the networks that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["squeezenet1_1", "mobilenet"])
    parser.add_argument("--rounds", type=positive, default=10, help="processes of each engine")
    add_peers_python(parser)
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    add_tune_options(parser)
    arguments = parser.parse_args(argv)
    require_peers_python(arguments.peers_python)
    run_now = results_file.begin(__file__, argv, threads=1)
    rows = [_row(model, arguments) for model in arguments.models]
    path = arguments.output / "footprint.json"
    run_now.with_data({"rounds": arguments.rounds, "rows": rows}).write(path)
    print(run_now.provenance, "\n", *(_table(each) for each in rows), sep="\n")
    print(f"written to {path}")
    return 0


def _row(model: str, arguments: argparse.Namespace) -> dict[str, Any]:
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="footprint-") as name:
        folder = Path(name)
        workload = prepare(model, 1, folder / "workload")
        cores = sorted(os.sched_getaffinity(0))
        tuned = tune(workload, arguments.logs, cores, TuneOptions.of(arguments))
        if tuned.bundle is None:
            raise UsageError(f"{model}: {tuned.failure}")
        bundle = read(tuned.bundle)
        commands: dict[str, tuple[list[str | Path], str]] = {
            FROM_C: (["taskset", "-c", str(core), _program(bundle, folder)], "")
        }
        failures: dict[str, str] = {}
        for engine in ENGINES:
            job = workload.job(engine, (core,), tuned.bundle)
            try:
                commands[engine.name] = _prepared(engine, job, arguments.peers_python, folder)
                _once(*commands[engine.name])
            except EngineError as error:
                commands.pop(engine.name, None)
                failures[engine.name] = str(error)
        found: dict[str, list[Once]] = {name: [] for name in commands}
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                found[name].append(_once(*command))
        return {
            "model": model,
            **_sizes(bundle),
            "engines": {
                **{each: _medians(values) for each, values in found.items()},
                **{each: {"failure": reason} for each, reason in failures.items()},
            },
        }


def _program(bundle: Bundle, folder: Path) -> Path:
    program = folder / "footprint"
    toolchain.run(
        [
            *("cc", "-O2", f"-I{bundle.folder}", BENCHMARKS / "footprint.c", bundle.library),
            *(f"-Wl,-rpath,{bundle.folder}", "-o", program),
        ]
    )
    return program


def _prepared(
    engine: Engine, job: Job, peers_python: Path, folder: Path
) -> tuple[list[str | Path], str]:
    python = python_of(engine, peers_python)
    if not engine.ours:
        convert(python, job, folder / "log", _CONVERT_S)
    return [python, "-m", "engines.once"], job.as_json()


def _once(command: Sequence[str | Path], job: str) -> Once:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, "1") | {"HF_HUB_OFFLINE": "1"}
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=BENCHMARKS,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(job + "\n")
    process.stdin.close()
    words = process.stdout.read().split()
    process.stdout.close()
    if process.wait() != 0 or len(words) < 2:
        raise EngineError(f"its process ended with exit code {process.returncode}")
    return Once(float(words[-2]) - started, float(words[-1]))


def _sizes(bundle: Bundle) -> dict[str, Any]:
    memory, weights = bundle.manifest.memory, sum(each.bytes for each in bundle.manifest.weights)
    library = bundle.library.stat().st_size
    return {
        "library_mb": library / 1e6,
        "weights_mb": weights / 1e6,
        "arena_mb": 0.0 if memory is None else memory.arena / 1e6,
        "code_kb": (library - weights) / 1e3,
    }


def _medians(values: Sequence[Once]) -> dict[str, float]:
    return {
        name: round(statistics.median(getattr(each, name) for each in values), 4)
        for name in asdict(values[0])
    }


def _table(row: dict[str, Any]) -> str:
    lines = [
        f"## {row['model']}",
        "",
        f"weights {row['weights_mb']:.1f} MB, arena {row['arena_mb']:.1f} MB, everything else of "
        f"the library {row['code_kb']:.0f} kB",
        "",
        "| engine | first inference, ms from the start of the process | peak MB |",
        "|---|---|---|",
    ]
    for name, found in row["engines"].items():
        if "failure" in found:
            lines.append(f"| {name} | {found['failure']} | |")
            continue
        lines.append(f"| {name} | {found['seconds'] * 1e3:.1f} | {found['peak_mb']:.1f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())

"""A tuner's process: its lines with the time they came at, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tuners.results import Found, found_of
from tuners.search import LOGS, write_kernels
from tvm_eff.tune import Task

BENCHMARKS = Path(__file__).resolve().parent.parent


def search(
    tuner: str,
    tasks: Sequence[Task],
    folder: Path,
    budget: float,
    *,
    batch: int = 64,
    cores: int = 1,
    packages: Path | None = None,
) -> Found:
    """Let a tuner work until its time is over or it has nothing left to try.

    Parameters
    ----------
    tuner
        ``tvm_eff`` or ``MetaSchedule``.
    tasks
        The kernels it tunes.
    folder
        An empty folder; its database is in the folder ``logs`` there afterwards.
    budget
        Seconds of wall time, from the start of its process.
    batch
        How many candidates MetaSchedule measures at a time.
    cores
        Threads of the kernels.
    packages
        A folder of packages that it imports besides the environment's.
    """
    (folder / "tmp").mkdir(parents=True)
    write_kernels(tasks, folder)
    command = [sys.executable, "-m", "tuners.search", tuner, str(folder), str(batch)]
    return listen(command, folder, budget, cores, packages)


def listen(
    command: Sequence[str], folder: Path, budget: float, cores: int, packages: Path | None = None
) -> Found:
    """Run a command and return what it said, and when."""
    log = folder / "log"
    added = "" if packages is None else str(packages.resolve())
    paths = [str(BENCHMARKS), str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", ""), added]
    environment = os.environ | {
        "TVM_NUM_THREADS": str(cores),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        # MetaSchedule leaves a folder there for each candidate.
        "TMPDIR": str(folder / "tmp"),
    }
    started = time.monotonic()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        lines = _lines(process, started, budget)
        over = process.poll() is None
    finally:
        taken = time.monotonic() - started
        _end(process)
    failure = None if over or process.returncode == 0 else _last_words(log, process.returncode)
    return found_of(lines, taken, _database_size(folder / LOGS), failure)


def _lines(
    process: subprocess.Popen[bytes], started: float, budget: float
) -> list[tuple[float, Any]]:
    """Return each line of JSON with its time, until the end of either."""
    assert process.stdout is not None
    found: list[tuple[float, Any]] = []
    descriptor, rest = process.stdout.fileno(), b""
    while (left := started + budget - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        read = os.read(descriptor, 65536)
        if not read:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(left)
            break
        *lines, rest = (rest + read).split(b"\n")
        at = round(time.monotonic() - started, 3)
        found += [(at, json.loads(line)) for line in lines]
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it has started, in whatever session that is."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    if process.poll() is None:
        process.kill()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _last_words(log: Path, code: int) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"ended with exit code {code}: {lines[-1] if lines else 'it said nothing'}"[:300]


def _database_size(logs: Path) -> int | None:
    """Return how many records a tuner's own database holds, whole lines only."""
    found = sorted(logs.rglob("database_tuning_record.json"))
    if not found:
        return None
    return sum(path.read_bytes().count(b"\n") for path in found)

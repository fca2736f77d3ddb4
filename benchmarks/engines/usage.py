"""What a process has used of the machine: cores, threads and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BUSY = 0.1
"""The share of the time a thread runs from which it counts as one that works."""


@dataclass(frozen=True)
class Moment:
    """The state of this process at one time: the processor time of each thread."""

    wall: float
    process: float
    threads: Mapping[str, float]


def now() -> Moment:
    """Return the state of this process now."""
    return Moment(time.perf_counter(), time.process_time(), _threads())


def since(before: Moment) -> dict[str, float | None]:
    """Return what was used since then.

    Returns
    -------
    dict
        ``cores``, processor time over wall time; ``threads``, how many worked, those that
        waited by spinning too, or None where the system does not say; ``memory_mb``, what
        is resident now, and ``peak_mb``, the most that ever was, or None likewise.
    """
    after = now()
    wall = max(after.wall - before.wall, 1e-9)
    ran = [value - before.threads.get(name, 0.0) for name, value in after.threads.items()]
    return {
        "cores": (after.process - before.process) / wall,
        "threads": sum(value > BUSY * wall for value in ran) if ran else None,
        "memory_mb": _memory_mb(),
        "peak_mb": peak_mb(),
    }


def _threads() -> dict[str, float]:
    """Return the seconds each thread has run, as far as Linux tells; elsewhere nothing."""
    found = {}
    for task in Path("/proc/self/task").glob("*/schedstat"):
        try:
            found[task.parent.name] = int(task.read_text().split()[0]) / 1e9
        except OSError:
            continue  # it has ended meanwhile
    return found


def _memory_mb() -> float | None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb() -> float | None:
    """Return the most memory that this process ever had resident; None if it is not told."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = (line.split() for line in status.read_text().splitlines())
    return next((int(words[1]) * 1024 / 1e6 for words in lines if words[0] == "VmHWM:"), None)

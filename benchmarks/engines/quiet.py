"""Whether the machine was quiet while engines were timed: what others took, how rounds agree."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psutil

Rounds = Sequence[Sequence[float]]
"""The seconds of each call, round by round; none in rounds that an engine sat out."""


@dataclass(frozen=True)
class Limits:
    """From when on a machine is not quiet.

    Attributes
    ----------
    before, during
        The share of the cores that others may take before the first turn, and during all.
    spread
        How far the rounds may lie apart: p90 - p10 of their medians, as a fraction of their
        median, of the engine in the middle. One engine may differ by itself; when half of
        them do, it is the machine.
    """

    before: float = 0.1
    during: float = 0.05
    spread: float = 0.1


@dataclass(frozen=True)
class Quietness:
    """What was seen of the machine while engines took turns.

    Attributes
    ----------
    load_average
        The system's, of the minute before. It has the tuning and the converting in it that
        just ran, so that nothing follows from it.
    before, during, spread
        As in :class:`Limits`; the spread is 0 where no engine had two rounds.
    """

    load_average: float
    before: float
    during: float
    spread: float

    def disturbances(self, limits: Limits) -> list[str]:
        """Return what was wrong, in words; nothing of a quiet machine."""
        found = []
        if self.before > limits.before:
            found.append(f"before it other programs took {self.before:.0%} of the cores")
        if self.during > limits.during:
            found.append(f"other programs took {self.during:.0%} of the cores")
        if self.spread > limits.spread:
            found.append(f"rounds of half of the engines differ by {self.spread:.0%}")
        return found

    def excess(self, limits: Limits) -> float:
        """Return the worst of the three as a multiple of its limit: the less, the quieter."""
        return max(
            self.before / limits.before, self.during / limits.during, self.spread / limits.spread
        )


@dataclass(frozen=True)
class Times:
    """Processor time until now: of the whole machine, and of this process and its children."""

    wall: float
    machine: float
    own: float


def now() -> Times:
    """Return the processor time until now."""
    return Times(time.monotonic(), machine_seconds(), own_seconds())


def others(before: Times, after: Times) -> float:
    """Return which share of the cores others took between two moments."""
    taken = (after.machine - before.machine) - (after.own - before.own)
    available = (after.wall - before.wall) * (psutil.cpu_count() or 1)
    return max(0.0, taken / available) if available > 0 else 0.0


def others_during(seconds: float) -> float:
    """Wait, and return which share of the cores others took meanwhile."""
    before = now()
    time.sleep(seconds)
    return others(before, now())


def machine_seconds() -> float:
    """Return the time all processors were busy, that a hypervisor took included."""
    times = psutil.cpu_times()
    busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
    # Linux counts a guest's time twice.
    return busy - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)


def own_seconds() -> float:
    """Return the processor time of this process and all it has started, ended ones too."""
    this = psutil.Process()
    total = 0.0
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def spread(engines: Mapping[str, Rounds]) -> float:
    """Return how far the rounds of the engine in the middle lie apart, as :class:`Limits` says."""
    found = [_spread(rounds) for rounds in engines.values()]
    known = [value for value in found if not math.isnan(value)]
    return float(np.median(known)) if known else 0.0


def _spread(rounds: Rounds) -> float:
    medians = [float(np.median(each)) for each in rounds if each]
    if len(medians) < 2:
        return math.nan
    low, middle, high = np.percentile(medians, (10, 50, 90))
    return float((high - low) / middle)


def load_average() -> float:
    """Return the system's load average of the last minute."""
    return os.getloadavg()[0]

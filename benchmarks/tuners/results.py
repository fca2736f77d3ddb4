"""What a tuner delivered: candidates a second, and the best kernels against wall time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tuners.search import READY


@dataclass(frozen=True)
class Found:
    """What a tuner delivered.

    Attributes
    ----------
    seconds
        How long it worked, its imports included.
    ready_s
        When it started to search, or None if it never did.
    measured
        Of each candidate that works: when it was delivered, its kernel's place in the list,
        and its seconds.
    failed
        How many candidates did not work.
    reasons
        Why, the most frequent first, with how often.
    database
        How many records its own database holds at the end.
    failure
        Why it stopped before its time, or None.
    """

    seconds: float
    ready_s: float | None
    measured: tuple[tuple[float, int, float], ...]
    failed: int
    reasons: Mapping[str, int]
    database: int | None
    failure: str | None

    @property
    def per_second(self) -> float:
        """Working candidates a second, from the start of the process to the last of them."""
        return len(self.measured) / self.measured[-1][0] if self.measured else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it for the file of results."""
        return asdict(self) | {
            "candidates": len(self.measured),
            "per_second": round(self.per_second, 3),
        }


def found_of(
    lines: Sequence[tuple[float, Any]], seconds: float, database: int | None, failure: str | None
) -> Found:
    """Read what a tuner's process said, each line with its time."""
    ready = next((at for at, line in lines if line == READY), None)
    candidates = [(at, line) for at, line in lines if line != READY]
    reasons = Counter(line[2] for _, line in candidates if line[1] is None)
    measured = tuple((at, line[0], line[1]) for at, line in candidates if line[1] is not None)
    return Found(
        seconds=round(seconds, 3),
        ready_s=ready,
        measured=measured,
        failed=reasons.total(),
        reasons=dict(reasons.most_common(3)),
        database=database,
        failure=failure,
    )


def best_against_time(
    measured: Sequence[tuple[float, int, float]], calls: Sequence[int]
) -> list[tuple[float, float]]:
    """Return when all kernels together got faster, and what they then took in one inference.

    It begins when each kernel has a candidate that works: before, there is no network.

    Parameters
    ----------
    measured
        As in :class:`Found`.
    calls
        How often the network calls each kernel.
    """
    best: dict[int, float] = {}
    curve: list[tuple[float, float]] = []
    for at, kernel, value in measured:
        best[kernel] = min(value, best.get(kernel, value))
        if len(best) < len(calls):
            continue
        total = sum(calls[place] * seconds for place, seconds in best.items())
        if not curve or total < curve[-1][1]:
            curve.append((at, total))
    return curve


def first_within(curve: Sequence[tuple[float, float]], share: float) -> float | None:
    """Return when a curve first was within a share of its own end, such as 0.03."""
    return next((at for at, value in curve if value <= curve[-1][1] * (1 + share)), None)

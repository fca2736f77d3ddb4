"""How much a session tries, and who hears of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from tvm_eff.tune.records.store import Record
from tvm_eff.tune.task import Task


@dataclass(frozen=True)
class TuneOptions:
    """How much to try.

    Attributes
    ----------
    trials
        Candidates measured of each task, at most; by default 16 in seconds, and 8 in
        instructions or on an OpenCL device in software.
    workers
        Builder processes; the number of cores by default.
    build_timeout
        Seconds a candidate may take to build.
    budget
        Seconds after which nothing more is measured; every kernel gets its first few
        candidates nevertheless. No limit by default.
    until_roofline
        A kernel that has reached this share of the device's peak of multiply-adds gets
        no more candidates than its first few. No limit by default.
    measure
        Whether anything is measured; without it schedules come from what is on record, of
        whatever machine, and from the order of the design space.
    retry_failed
        Whether candidates that failed before are measured again. Where no candidate of a
        kernel has worked, they are in any case.
    plain_weights
        Whether a few candidates that leave the weight as it is are measured of each kernel, even
        if records say that others win: see :mod:`tvm_eff.tune.weight_bound`.
    """

    trials: int | None = None
    workers: int | None = None
    build_timeout: float = 60.0
    budget: float = math.inf
    until_roofline: float = math.inf
    measure: bool = True
    retry_failed: bool = False
    plain_weights: bool = False


class Progress(Protocol):
    """Records events of a session."""

    def started(self, total: int, to_measure: int, rechecked: int) -> None:
        """A session with `total` candidates starts, of which `to_measure` are new.

        `rechecked` of those are the best of another machine's records, or of other code's.
        """

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        """One candidate was measured, or failed."""


class Silent:
    """Ignores all events."""

    def started(self, total: int, to_measure: int, rechecked: int) -> None:
        """Do nothing."""

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        """Do nothing."""

"""Which candidates to measure next: those of the task with the most left to gain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm_eff.schedules import Candidate
from tvm_eff.tune.task import Task

INITIAL_TRIALS = 4
"""Candidates of every task that are measured before any task gets more."""

TRIALS_PER_ROUND = 4
"""Candidates that the task with the most to gain gets next."""

Best = Callable[[Task], float]
"""The best value of a task's records; infinite if none."""

Rank = Callable[[Task, Sequence[Candidate]], Sequence[Candidate]]
"""Orders candidates of a task, the most promising first."""


@dataclass(frozen=True)
class PendingTask:
    """What is not on record of a task: `count` of `candidates` are to be measured.

    They are priors to `recheck` where the task was tuned on another machine or as other code.
    """

    task: Task
    candidates: Sequence[Candidate]
    count: int
    recheck: bool = False


@dataclass(frozen=True)
class Batch:
    """Some candidates of one task, to be built and measured together."""

    task: Task
    candidates: tuple[Candidate, ...]


class TaskScheduler:
    """Deals out the candidates that are not on record yet.

    A network is as fast as the sum of its kernels' calls, and a kernel's first
    candidates are the most promising. So every task gets its first few, and then
    the one that could still gain most gets more: its calls times what separates the
    best candidate found from its roofline bound.

    Parameters
    ----------
    pending
        For each task, what is not on record, the most promising first.
    best
        Looks up what was found so far.
    bound
        The roofline bound of a task in the unit of `best`; 0 if nothing is known.
    until_roofline
        A task whose bound is this share of its best gets no more than its first ones.
    rank
        Orders what is left of a task after its first candidates, if that is more than
        is to be measured; by default it stays in order.
    """

    def __init__(
        self,
        pending: Sequence[PendingTask],
        best: Best,
        bound: Callable[[Task], float],
        until_roofline: float = math.inf,
        rank: Rank = lambda _, candidates: candidates,
    ) -> None:
        self._remaining = {each.task.name: list(each.candidates) for each in pending}
        self._left = {each.task.name: each.count for each in pending}
        self._first = [each.task for each in pending if each.count]
        self._tasks = [each.task for each in pending]
        self._best, self._bound, self._rank = best, bound, rank
        self._until_roofline = until_roofline

    @property
    def warmed_up(self) -> bool:
        """Whether every task has had its first candidates."""
        return not self._first

    def next_batch(self) -> Batch | None:
        """Return what to measure next, or None if there is nothing left."""
        if self._first:
            return self._take(self._first.pop(0), INITIAL_TRIALS)
        open_tasks = [task for task in self._tasks if self._is_open(task)]
        if not open_tasks:
            return None
        task = max(open_tasks, key=self._gain)
        if len(self._remaining[task.name]) > self._left[task.name]:
            self._remaining[task.name] = list(self._rank(task, self._remaining[task.name]))
        return self._take(task, TRIALS_PER_ROUND)

    def _take(self, task: Task, limit: int) -> Batch:
        count = min(limit, self._left[task.name])
        remaining = self._remaining[task.name]
        taken, self._remaining[task.name] = remaining[:count], remaining[count:]
        self._left[task.name] -= len(taken)
        return Batch(task, tuple(taken))

    def _is_open(self, task: Task) -> bool:
        if not self._left[task.name]:
            return False
        if self._until_roofline == math.inf:
            return True
        return self._bound(task) < self._until_roofline * self._best(task)

    def _gain(self, task: Task) -> float:
        return task.calls * (self._best(task) - self._bound(task))

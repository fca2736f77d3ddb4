"""Which candidates to measure next: those of the kernel where most may still be won."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm_eff.schedules import Candidate
from tvm_eff.tune.task import Task

FIRST = 4
"""Candidates of every kernel that are measured before any kernel gets more."""

MORE = 4
"""Candidates that the kernel with the most to win gets next."""

Best = Callable[[Task], float]
"""The best value of a kernel's records; infinite if none."""

Rank = Callable[[Task, Sequence[Candidate]], Sequence[Candidate]]
"""Orders candidates of a kernel, the most promising first."""


@dataclass(frozen=True)
class Missing:
    """What is not on record of a kernel: `count` of `candidates` are to be measured."""

    task: Task
    candidates: Sequence[Candidate]
    count: int


@dataclass(frozen=True)
class Share:
    """Some candidates of one kernel, to be measured together."""

    task: Task
    candidates: tuple[Candidate, ...]


class Allocation:
    """Deals out the candidates that are not on record yet.

    A network is as fast as the sum of its kernels' calls, and a kernel's first
    candidates are the most promising. So every kernel gets its first few, and then
    the one that could still give most gets more: its calls times what separates the
    best candidate found from its floor.

    Parameters
    ----------
    missing
        For each kernel, what is not on record, the most promising first.
    best
        Looks up what was found so far.
    floor
        The least a kernel can cost in the unit of `best`; 0 if nothing is known.
    enough
        A kernel whose floor is this share of its best gets no more than its first ones.
    rank
        Orders what is left of a kernel after its first candidates, if that is more than
        is to be measured; by default it stays in order.
    """

    def __init__(
        self,
        missing: Sequence[Missing],
        best: Best,
        floor: Callable[[Task], float],
        enough: float = math.inf,
        rank: Rank = lambda _, candidates: candidates,
    ) -> None:
        self._remaining = {each.task.name: list(each.candidates) for each in missing}
        self._left = {each.task.name: each.count for each in missing}
        self._first = [each.task for each in missing if each.count]
        self._tasks = [each.task for each in missing]
        self._best, self._floor, self._enough, self._rank = best, floor, enough, rank

    @property
    def complete(self) -> bool:
        """Whether every kernel has had its first candidates."""
        return not self._first

    def next(self) -> Share | None:
        """Return what to measure next, or None if there is nothing left."""
        if self._first:
            return self._take(self._first.pop(0), FIRST)
        open_tasks = [task for task in self._tasks if self._is_open(task)]
        if not open_tasks:
            return None
        task = max(open_tasks, key=self._to_win)
        if len(self._remaining[task.name]) > self._left[task.name]:
            self._remaining[task.name] = list(self._rank(task, self._remaining[task.name]))
        return self._take(task, MORE)

    def _take(self, task: Task, most: int) -> Share:
        count = min(most, self._left[task.name])
        remaining = self._remaining[task.name]
        taken, self._remaining[task.name] = remaining[:count], remaining[count:]
        self._left[task.name] -= len(taken)
        return Share(task, tuple(taken))

    def _is_open(self, task: Task) -> bool:
        if not self._left[task.name]:
            return False
        return self._enough == math.inf or self._floor(task) < self._enough * self._best(task)

    def _to_win(self, task: Task) -> float:
        return task.calls * (self._best(task) - self._floor(task))

"""Which candidates to measure where there are more than trials: those that a model expects most of.

XGBoost learns from what is on record of the session's kernels, candidates that were measured
just now included, and one kernel's records say something about another's: decisions mean the
same in both.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from tvm_eff.schedules import Candidate, analysis
from tvm_eff.tune.records.store import Record, RecordStore
from tvm_eff.tune.task import Task

ROUNDS = 60
PARAMETERS = {"max_depth": 6, "eta": 0.2, "nthread": 1, "seed": 0}

_MEANS_NOTHING = {"seed"}

logger = logging.getLogger(__name__)

Features = dict[str, float]


class CostModel:
    """Ranks candidates by what is on record.

    It is trained again when there is more on record, and its ranking depends on nothing else.

    Parameters
    ----------
    tasks
        The kernels.
    plan
        For each kernel, by its name, all its candidates.
    records
        What was measured.
    """

    def __init__(
        self, tasks: Sequence[Task], plan: Mapping[str, Sequence[Candidate]], records: RecordStore
    ) -> None:
        self._tasks, self._records = tasks, records
        self._features = {task.name: _of_all(task, plan[task.name]) for task in tasks}
        every = (row for rows in self._features.values() for row in rows.values())
        self._columns = sorted({name for row in every for name in row})
        self._trained_on = 0
        self._model: Any = None

    def rank(self, task: Task, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return candidates of one kernel, the most promising first.

        Every fourth is the next in the order that they are given in, whatever the model says:
        it cannot know about what it never saw.
        """
        xgboost = self._xgboost
        if xgboost is None:
            return list(candidates)
        self._train(xgboost)
        if self._model is None:
            return list(candidates)
        rows = xgboost.DMatrix(self._matrix(task, candidates), nthread=1)
        ordered = np.argsort(self._model.predict(rows), kind="stable")
        return _explored(candidates, [int(index) for index in ordered])

    @cached_property
    def _xgboost(self) -> ModuleType | None:
        # Only where there is something to rank: it takes half a second.
        return _xgboost()

    def _train(self, xgboost: ModuleType) -> None:
        usable = [(task, self._usable(task)) for task in self._tasks]
        count = sum(len(found) for _, found in usable)
        if count == self._trained_on:
            return
        self._trained_on = count
        # What a kernel costs is known from its work, but for a factor.
        labels = [
            math.log(record.value / max(1, task.operations))
            for task, found in usable
            for record in found
        ]
        rows = [self._matrix(task, [r.candidate for r in found]) for task, found in usable if found]
        data = xgboost.DMatrix(np.concatenate(rows), label=np.array(labels), nthread=1)
        self._model = xgboost.train(PARAMETERS, data, num_boost_round=ROUNDS)

    def _usable(self, task: Task) -> list[Record]:
        known = self._features[task.name]
        return [each for each in self._records.usable(task.workload) if each.candidate in known]

    def _matrix(self, task: Task, candidates: Iterable[Candidate]) -> np.ndarray:
        # What a kernel or a rule does not have is missing, which XGBoost knows.
        known = self._features[task.name]
        return np.array(
            [[known[each].get(name, math.nan) for name in self._columns] for each in candidates]
        )


def _of_all(task: Task, candidates: Iterable[Candidate]) -> dict[Candidate, Features]:
    workload = _of_workload(task)
    return {each: {**workload, **_of_candidate(each, workload)} for each in candidates}


def _xgboost() -> ModuleType | None:
    try:
        import xgboost
    except (ImportError, OSError, ValueError) as error:  # XGBoostError is a ValueError
        logger.warning(
            "candidates are measured in the order of the design space, without a cost model: "
            "xgboost cannot be imported (%s); run: pip install xgboost-cpu",
            next(iter(str(error).strip().splitlines()), type(error).__name__),
        )
        return None
    return xgboost


def _of_workload(task: Task) -> Features:
    features = {"operations": math.log2(max(1, task.operations))}
    work = analysis.contraction(task.func)
    if work is None:
        return features
    *kernel, depth = (work.extents[axis] for axis in work.reduction)
    return {
        **features,
        "channels": work.channels,
        "positions": math.prod(work.extents[axis] for axis in work.positions),
        "width": work.width,
        "depth": depth,
        "kernel": math.prod(kernel),
        "groups": work.groups,
        "depthwise": work.depthwise,
    }


def _of_candidate(candidate: Candidate, workload: Mapping[str, float]) -> Features:
    decisions = candidate.as_dict()
    features: Features = {f"rule {candidate.rule}": 1.0}
    features |= {name: value for name, value in decisions.items() if name not in _MEANS_NOTHING}
    rows, columns = decisions.get("rows", 0), decisions.get("columns", 0)
    if not (rows > 0 and columns > 0 and "width" in workload):
        return features
    # A register tile: its size, what it loads for a multiply-add, and what is left over.
    return features | {
        "tile": rows * columns,
        "loads": 1 / rows + 1 / columns,
        "rows left over": workload["width"] % rows / rows,
        "columns left over": workload["channels"] % columns / columns,
    }


def _explored(candidates: Sequence[Candidate], ordered: Sequence[int]) -> list[Candidate]:
    """Return `candidates` as `ordered`, every fourth the first one left as they stand."""
    best, next_one = list(ordered), list(range(len(candidates)))
    found: list[int] = []
    while best:
        index = next_one[0] if len(found) % 4 == 3 else best[0]
        found.append(index)
        best.remove(index)
        next_one.remove(index)
    return [candidates[index] for index in found]

"""What quantization may cost: classes that change, noise of outputs, or a metric that falls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from tvm_eff.errors import UsageError
from tvm_eff.models import Sample
from tvm_eff.models.program import first_line, location_of
from tvm_eff.models.source import attribute_of

Metric = str | Callable[[Any, Any], float]
"""``FILE.py:FUNCTION``, or the function: of outputs and labels, and higher is better."""

Outputs = Sequence[Sequence[np.ndarray]]
"""The outputs of each sample."""


@dataclass(frozen=True)
class Criterion:
    """A measure of what a network loses against float32.

    Attributes
    ----------
    words
        What falls, in words.
    score
        What outputs are worth, the higher the better; float32's own are worth `before`.
    before
        The score of float32.
    """

    words: str
    score: Callable[[Outputs], float] = field(repr=False)
    before: float

    def drop(self, outputs: Outputs) -> float:
        """Return how far the score falls."""
        return self.before - self.score(outputs)


def criterion_of(samples: Sequence[Sample], exact: Outputs, metric: Metric | None) -> Criterion:
    """Return the measure that the data allows for.

    That is the user's own metric if there is one; otherwise, with labels, the share of right
    classes; without, the share of classes that stay, if the first output is a row of class
    scores; and else what noise leaves of the outputs: 1 less the ratio of their root mean squares.

    Parameters
    ----------
    samples
        The data.
    exact
        The outputs of float32 for it.
    metric
        The user's own.

    Raises
    ------
    UsageError
        Only some samples have a label, or one is none of the network's classes; or the metric
        fails, or returns something other than a number.
    ModelError
        The metric's file cannot be imported.
    """
    labels = _labels(samples)
    if metric is not None:
        score = _user_score(metric, labels)
        return Criterion(f"the metric {_name(metric)}", score, score(exact))
    if labels is not None:
        _require_classes(labels, exact)
        score = _top1(labels)
        return Criterion("the share of right classes", score, score(exact))
    if all(each[0].ndim == 2 and each[0].shape[1] > 1 for each in exact):
        return Criterion("the share of float32's classes", _top1(_stacked(exact, 0).argmax(1)), 1.0)
    return Criterion("the outputs without their noise", _cleanness(exact), 1.0)


def require_metric(metric: Metric | None) -> None:
    """Refuse, before anything is measured, a metric that cannot be loaded.

    Raises
    ------
    UsageError, ModelError
        As for :func:`criterion_of`.
    """
    if metric is not None and not callable(metric):
        _loaded(metric)


def noise_and_signal(exact: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> np.ndarray:
    """Return the energy of the difference and that of the exact outputs, as a pair."""
    total = np.zeros(2)
    for one, other in zip(exact, found, strict=True):
        wide = one.astype("float64")
        total += np.square(wide - other).sum(), np.square(wide).sum()
    return total


def _labels(samples: Sequence[Sample]) -> np.ndarray | None:
    found = [each.label for each in samples if each.label is not None]
    if not found:
        return None
    if len(found) < len(samples):
        missing = next(each.name for each in samples if each.label is None)
        raise UsageError(f"{missing} has no label, and others of the calibration data have one")
    return np.concatenate(found)


def _require_classes(labels: np.ndarray, exact: Outputs) -> None:
    scores = exact[0][0]
    if scores.ndim != 2 or scores.shape[1] < 2:
        shape = " x ".join(map(str, scores.shape))
        raise UsageError(
            "the calibration data has labels, and the first output of the model is no row of class "
            f"scores: it is {shape}; leave the labels out, or give a metric: --metric FILE.py:NAME"
        )
    if len(labels) != sum(len(each[0]) for each in exact):
        raise UsageError(
            f"the calibration data has {len(labels)} labels for "
            f"{sum(len(each[0]) for each in exact)} rows of class scores"
        )
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        wrong = labels.max() if labels.max() >= scores.shape[1] else labels.min()
        raise UsageError(
            f"the label {wrong} of the calibration data is none of the model's {scores.shape[1]} "
            "classes, which are counted from 0"
        )


def _stacked(outputs: Outputs, place: int) -> np.ndarray:
    return np.concatenate([each[place] for each in outputs])


def _top1(labels: np.ndarray) -> Callable[[Outputs], float]:
    return lambda outputs: float(np.mean(_stacked(outputs, 0).argmax(1) == labels))


def _cleanness(exact: Outputs) -> Callable[[Outputs], float]:
    def score(outputs: Outputs) -> float:
        pairs = [noise_and_signal(one, other) for one, other in zip(exact, outputs, strict=True)]
        noise, signal = np.sum(pairs, axis=0)
        return 1.0 - math.sqrt(noise / signal) if signal else 1.0 - float(noise > 0)

    return score


def _user_score(metric: Metric, labels: np.ndarray | None) -> Callable[[Outputs], float]:
    name = _name(metric)
    function = metric if callable(metric) else _loaded(metric)

    def score(outputs: Outputs) -> float:
        count = len(outputs[0])
        stacked = [_stacked(outputs, place) for place in range(count)]
        try:
            found = function(stacked[0] if count == 1 else stacked, labels)
        except Exception as error:  # whatever the user's code raises
            raise UsageError(
                f"{name} failed: {type(error).__name__}: {first_line(error)}{location_of(error)}"
            ) from error
        number = found.item() if isinstance(found, np.generic) else found
        if not isinstance(number, Real) or not math.isfinite(number):
            raise UsageError(
                f"{name} returned {found!r}; return one number for all outputs, the higher the "
                "better"
            )
        return float(number)

    return score


def _loaded(metric: str) -> Callable[[Any, Any], float]:
    if ":" not in metric:
        raise UsageError(f"'{metric}' is no metric; write FILE.py:FUNCTION")
    found = attribute_of(metric)
    if not callable(found):
        raise UsageError(f"{metric} is a {type(found).__name__}; name a function")
    function: Callable[[Any, Any], float] = found
    return function


def _name(metric: Metric) -> str:
    if callable(metric):
        return getattr(metric, "__name__", "a function")
    return metric.rpartition("/")[2]

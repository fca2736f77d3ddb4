"""The precision of each layer: the cheapest network that loses no more than is allowed.

Each layer's effect alone is measured: the noise of the outputs when nothing else is in integers
or in float16. A step takes a layer to float16, where the processor computes in it, or on to int8.
Steps are ordered by the noise that they add over what they save, and taken as long as all that
are taken together lose no more than is allowed. How often that has to be asked grows with the
logarithm of the layers, where a few of them are the sensitive ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch.fx import Node

from tvm_eff.models import Sample
from tvm_eff.quantize.criterion import Criterion, Metric, criterion_of, noise_and_signal
from tvm_eff.quantize.layer_cost import CostModel
from tvm_eff.quantize.loss import decibels
from tvm_eff.quantize.observed import Observed, described
from tvm_eff.quantize.precision import Precision, Precisions
from tvm_eff.quantize.simulate import Simulator, Values

_MEASURED = 16
"""Samples, at most, on which each layer's effect alone is measured."""

FLOAT16_MAX = float(np.finfo(np.float16).max)
"""A layer is not offered in float16 where a sum of some of its products might be larger."""

Done = Callable[[str, int], None]
"""Told what is done, and how much of it."""


@dataclass(frozen=True)
class LayerChoice:
    """What was found for one layer.

    Attributes
    ----------
    layer
        The operator and its module.
    precision
        What it is computed in.
    sqnr_db
        The ratio of signal to noise of the outputs if it alone is in int8, in decibels.
    cost_before, cost_after
        What it costs in float32 and as chosen, in multiply-adds of float32.
    sqnr_float16_db
        The ratio of signal to noise if it alone is in float16; None where that is not offered.
    not_float16
        Why it is not offered for this layer, in words; None if it is, or not by the processor.
    """

    layer: str
    precision: Precision
    sqnr_db: float
    cost_before: float
    cost_after: float
    sqnr_float16_db: float | None = None
    not_float16: str | None = None


@dataclass(frozen=True)
class Step:
    """A layer taken to a precision.

    Attributes
    ----------
    layer
        The name of its node.
    precision
        What it is computed in from then on.
    rank
        The noise that this adds, as a share of the signal, over what it saves.
    """

    layer: str
    precision: Precision
    rank: float


def precisions_of(steps: Sequence[Step]) -> dict[str, Precision]:
    """Return what layers are computed in when these steps are taken, one after the other."""
    return {each.layer: each.precision for each in steps}


@dataclass(frozen=True)
class _Layer:
    """A layer, with its noise alone and its cost in each precision that it can have."""

    node: Node
    noise: dict[Precision, float]
    cost: dict[Precision, float]
    not_float16: str | None

    def steps(self) -> list[Step]:
        """Return the steps that save something, the one that adds less noise first."""
        found: list[Step] = []
        at: Precision = "float32"
        for precision in ("float16", "int8"):
            if precision not in self.cost or self.cost[precision] >= self.cost[at]:
                continue
            added = max(self.noise[precision] - self.noise.get(at, 0.0), 0.0)
            rank = added / (self.cost[at] - self.cost[precision])
            # The first step is never behind the second, which takes its place.
            found = [replace(each, rank=min(each.rank, rank)) for each in found]
            found.append(Step(self.node.name, precision, rank))
            at = precision
        return found


class Chooser:
    """Finds what each layer of an observed network is computed in.

    Parameters
    ----------
    observed
        The network.
    max_drop
        How much may be lost, as a share of 1.
    metric
        The user's own measure; see :func:`tvm_eff.quantize.criterion.criterion_of`.
    model
        What layers cost.
    done
        Told what is done.

    Raises
    ------
    UsageError, ModelError
        As for :func:`tvm_eff.quantize.criterion.criterion_of`.
    """

    def __init__(
        self,
        observed: Observed,
        max_drop: float,
        metric: Metric | None,
        model: CostModel,
        done: Done,
    ) -> None:
        self._simulator, self._samples = Simulator(observed), observed.samples
        self._max_drop, self._model, self._done = max_drop, model, done
        self._asked = 0
        self._offered: tuple[Precision, ...] = ("int8",)
        if model.half_rate is not None:
            self._offered = ("float16", "int8")
        self._largest: dict[Node, float] = defaultdict(float)
        self._exact = [self._in_float32(each, observed.layers) for each in self._samples]
        self.criterion: Criterion = criterion_of(self._samples, self._exact, metric)
        self._layers = self._measured(observed.layers)

    def choose(self) -> list[Step]:
        """Return the steps to take, the ones to give up first at the end."""
        steps = [step for each in self._layers for step in each.steps()]
        order, taken = sorted(steps, key=lambda each: each.rank), list[Step]()
        while order:
            held = self._longest(taken, order)
            taken, refused = [*taken, *order[:held]], order[held : held + 1]
            order = [each for each in order[held + 1 :] if not _is_beyond(each, refused)]
        return taken

    def table(self, chosen: Precisions) -> tuple[LayerChoice, ...]:
        """Return what was found for each layer, in order, with these precisions."""
        found = []
        for each in self._layers:
            precision = chosen.get(each.node.name, "float32")
            half = each.noise.get("float16")
            choice = LayerChoice(
                described(each.node),
                precision,
                decibels(each.noise["int8"]),
                each.cost["float32"],
                each.cost[precision],
                None if half is None else decibels(half),
                each.not_float16,
            )
            found.append(choice)
        return tuple(found)

    def _in_float32(self, sample: Sample, layers: Sequence[Node]) -> list[np.ndarray]:
        values = self._simulator.run(sample.inputs, {})
        for node in layers if "float16" in self._offered else ():
            self._largest[node] = max(self._largest[node], self._simulator.largest(node, values))
        return self._simulator.outputs(values)

    def _measured(self, nodes: Sequence[Node]) -> list[_Layer]:
        totals: dict[tuple[Node, Precision], np.ndarray] = defaultdict(lambda: np.zeros(2))
        values: Values = {}
        for sample, exact in zip(self._samples[:_MEASURED], self._exact, strict=False):
            values = self._simulator.run(sample.inputs, {})
            for node in nodes:
                for each in self._offered:
                    found = self._simulator.run(sample.inputs, {node.name: each}, values)
                    totals[node, each] += noise_and_signal(exact, self._simulator.outputs(found))
                self._done("layers on samples", self._next())
        return [self._layer(node, values, totals) for node in nodes]

    def _layer(
        self, node: Node, values: Values, totals: Mapping[tuple[Node, Precision], np.ndarray]
    ) -> _Layer:
        reason, offered, largest = None, [*self._offered], self._largest[node]
        if "float16" in offered and not largest <= FLOAT16_MAX:
            reason = f"sums may reach {largest:.3g}, and float16 ends at {FLOAT16_MAX:,.0f}"
            offered.remove("float16")
        every: tuple[Precision, ...] = ("float32", *offered)
        return _Layer(
            node,
            {each: _share(*totals[node, each]) for each in offered},
            {each: self._model.cost(node, values, each) for each in every},
            reason,
        )

    def _longest(self, taken: list[Step], order: list[Step]) -> int:
        """Return how many more steps can be taken at once: all, or up to the first too many."""
        if self._holds([*taken, *order]):
            return len(order)
        least, most = 0, len(order)
        while most - least > 1:
            middle = (least + most) // 2
            if self._holds([*taken, *order[:middle]]):
                least = middle
            else:
                most = middle
        return least

    def _holds(self, steps: Sequence[Step]) -> bool:
        found, precisions = [], precisions_of(steps)
        for sample in self._samples:
            values = self._simulator.run(sample.inputs, precisions)
            found.append(self._simulator.outputs(values))
            self._done("samples compared", self._next())
        return self.criterion.drop(found) <= self._max_drop

    def _next(self) -> int:
        self._asked += 1
        return self._asked


def _is_beyond(step: Step, refused: Sequence[Step]) -> bool:
    """Whether a layer that loses too much in float16 would be taken to int8."""
    return any(each.layer == step.layer and each.precision == "float16" for each in refused)


def _share(noise: float, signal: float) -> float:
    return float(noise / signal) if signal else float(noise > 0)

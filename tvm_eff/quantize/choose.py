"""The precision of each layer: the cheapest network that loses no more than is allowed.

Each layer's effect alone is measured: the noise of the outputs when nothing else is in integers.
Layers are ordered by noise over what they save, and taken as long as all that are taken together
lose no more than is allowed. How often that has to be asked grows with the logarithm of the
layers, where a few of them are the sensitive ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import numpy as np
from torch.fx import Node

from tvm_eff.quantize.criterion import Criterion, Metric, criterion_of, noise_and_signal
from tvm_eff.quantize.layer_cost import CostModel, Precision
from tvm_eff.quantize.loss import decibels
from tvm_eff.quantize.observed import Observed, described
from tvm_eff.quantize.simulate import Simulator, Values

_MEASURED = 16
"""Samples, at most, on which each layer's effect alone is measured."""

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
    """

    layer: str
    precision: Precision
    sqnr_db: float
    cost_before: float
    cost_after: float


@dataclass(frozen=True)
class _Layer:
    node: Node
    noise: float
    before: float
    after: float

    @property
    def rank(self) -> float:
        """Noise for what it saves."""
        saved = self.before - self.after
        return self.noise / saved if saved > 0 else float("inf")


class Chooser:
    """Finds the layers of an observed network that integers compute.

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
        self._exact = [
            self._simulator.outputs(self._simulator.run(each.inputs, set()))
            for each in self._samples
        ]
        self.criterion: Criterion = criterion_of(self._samples, self._exact, metric)
        self._layers = self._measured(observed.layers)

    def choose(self) -> list[str]:
        """Return the layers to compute in integers, the ones to give up first at the end."""
        order = [each.node.name for each in sorted(self._layers, key=lambda each: each.rank)]
        order = [name for name in order if self._layer(name).rank < float("inf")]
        taken: list[str] = []
        while order:
            held = self._longest(taken, order)
            taken, order = [*taken, *order[:held]], order[held + 1 :]
        return taken

    def table(self, chosen: Set[str]) -> tuple[LayerChoice, ...]:
        """Return what was found for each layer, in order, with these in integers."""
        return tuple(
            LayerChoice(
                described(each.node),
                "int8" if each.node.name in chosen else "float32",
                decibels(each.noise),
                each.before,
                each.after if each.node.name in chosen else each.before,
            )
            for each in self._layers
        )

    def _layer(self, name: str) -> _Layer:
        return next(each for each in self._layers if each.node.name == name)

    def _measured(self, nodes: Sequence[Node]) -> list[_Layer]:
        totals = np.zeros((len(nodes), 2))
        values: Values = {}
        for sample, exact in zip(self._samples[:_MEASURED], self._exact, strict=False):
            values = self._simulator.run(sample.inputs, set())
            for place, node in enumerate(nodes):
                found = self._simulator.run(sample.inputs, {node.name}, values)
                totals[place] += noise_and_signal(exact, self._simulator.outputs(found))
                self._done("layers on samples", self._next())
        return [
            _Layer(
                node,
                float(noise / signal) if signal else float(noise > 0),
                self._model.cost(node, values, "float32"),
                self._model.cost(node, values, "int8"),
            )
            for node, (noise, signal) in zip(nodes, totals, strict=True)
        ]

    def _longest(self, taken: list[str], order: list[str]) -> int:
        """Return how many more layers can be taken at once: all, or up to the first too many."""
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

    def _holds(self, layers: list[str]) -> bool:
        found = []
        for sample in self._samples:
            values = self._simulator.run(sample.inputs, set(layers))
            found.append(self._simulator.outputs(values))
            self._done("samples compared", self._next())
        return self.criterion.drop(found) <= self._max_drop

    def _next(self) -> int:
        self._asked += 1
        return self._asked

"""What a study found, and what follows from it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from study.grid import LayerShape
from tvm_eff.device import Unit
from tvm_eff.models import Formula


@dataclass(frozen=True)
class Kernel:
    """One tuned kernel of a layer.

    Attributes
    ----------
    label
        What it computes, in words.
    calls
        How often the layer calls it.
    cost
        What a call cost in the tuning session, in the study's unit.
    """

    label: str
    calls: int
    cost: float


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs.

    Attributes
    ----------
    macs, parameters
        Counted on the network.
    turns
        What an inference of its library cost in each round, in the study's unit.
    error
        Its largest error against PyTorch, as a fraction of the output's spread.
    kernels
        Its tuned kernels.
    """

    macs: int
    parameters: int
    turns: tuple[float, ...]
    error: float
    kernels: tuple[Kernel, ...]

    @property
    def cost(self) -> float:
        """The median of the turns."""
        return statistics.median(self.turns)

    @property
    def mac_rate(self) -> float:
        """Multiply-accumulates a second, or an instruction."""
        return self.macs / self.cost

    @property
    def dearest(self) -> tuple[Kernel, float]:
        """The kernel whose calls cost most, and its share of what all kernels cost."""
        kernel = max(self.kernels, key=lambda each: each.calls * each.cost)
        return kernel, kernel.calls * kernel.cost / sum(k.calls * k.cost for k in self.kernels)


@dataclass(frozen=True)
class Comparison:
    """A factorized layer against the standard one it stands for.

    All ratios are the standard layer's figure over the factorized one's: above 1, the
    factorized layer is the cheaper.

    Attributes
    ----------
    family, layer
        The family of networks, and which of its layers.
    shape
        The shape of both.
    formula
        What the paper says, as the factorized layer's share of the standard one.
    standard, factorized
        What they cost. A round measures both, so their turns belong together.
    """

    family: str
    layer: str
    shape: LayerShape
    formula: Formula
    standard: LayerCost
    factorized: LayerCost

    @property
    def theoretical(self) -> float:
        """How many times fewer multiply-accumulates there are."""
        return self.standard.macs / self.factorized.macs

    @property
    def promised(self) -> float:
        """How many times fewer there are by the paper's formula."""
        return float(1 / self.formula.ratio)

    @property
    def formula_holds(self) -> bool:
        """Whether formula and count are the same fraction."""
        return Fraction(self.factorized.macs, self.standard.macs) == self.formula.ratio

    @property
    def rounds(self) -> tuple[float, ...]:
        """The measured ratio of each round."""
        turns = zip(self.standard.turns, self.factorized.turns, strict=True)
        return tuple(standard / factorized for standard, factorized in turns)

    @property
    def measured(self) -> float:
        """How many times less the factorized layer cost: the median of the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and the 90th percentile of the rounds."""
        low, high = np.percentile(self.rounds, (10, 90))
        return float(low), float(high)

    @property
    def noise(self) -> float | None:
        """Half of the spread, as a fraction of what was measured; None of a single round."""
        if len(self.rounds) < 2:
            return None
        low, high = self.spread
        return (high - low) / 2 / self.measured

    @property
    def delivered(self) -> float:
        """The fraction of the theoretical saving that was measured; 1 is all of it.

        It is the factorized layer's rate of multiply-accumulates over the standard one's.
        """
        return self.measured / self.theoretical


@dataclass(frozen=True)
class Study:
    """A whole study.

    Attributes
    ----------
    target
        The target's name.
    unit
        ``seconds`` or ``instructions``.
    where
        The device of all figures, in words.
    date
        The day, as 2026-11-23.
    versions
        The versions of what produced it.
    kernels, candidates
        Different kernels that were tuned, and how many candidates of them were measured,
        in earlier sessions too.
    load
        The load average of this machine before it began, where it is the one that was
        measured; otherwise None.
    threads
        The threads of the target's processor.
    tolerance
        The error every library was allowed.
    comparisons
        What was found, shape by shape.
    """

    target: str
    unit: Unit
    where: str
    date: str
    versions: dict[str, str]
    kernels: int
    candidates: int
    load: float | None
    threads: int
    tolerance: float
    comparisons: tuple[Comparison, ...]

    @property
    def in_seconds(self) -> bool:
        """Whether the figures are times, from which speed-ups follow."""
        return self.unit == "seconds"

    @property
    def disturbed(self) -> bool:
        """Whether the machine had other work before it was measured."""
        return self.load is not None and self.load > self.threads / 2

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs: costs in the study's unit, ratios standard over factorized."""
        return {
            "target": self.target,
            "unit": self.unit,
            "where": self.where,
            "date": self.date,
            "versions": self.versions,
            "kernels": self.kernels,
            "candidates": self.candidates,
            "load_average": self.load,
            "threads": self.threads,
            "tolerance": self.tolerance,
            "pairs": [self._pair(each) for each in self.comparisons],
        }

    def _pair(self, pair: Comparison) -> dict[str, Any]:
        measured = "measured_speed_up" if self.in_seconds else "instruction_ratio"
        return {
            "family": pair.family,
            "layer": pair.layer,
            "shape": vars(pair.shape),
            "formula": {
                "text": pair.formula.text,
                "source": pair.formula.source,
                "ratio": str(pair.formula.ratio),
                "departures": list(pair.formula.departures),
                "agrees_with_count": pair.formula_holds,
            },
            "theoretical_ratio": pair.theoretical,
            measured: pair.measured,
            f"{measured}_p10_p90": list(pair.spread),
            f"{measured}_rounds": list(pair.rounds),
            "fraction_delivered": pair.delivered,
            "standard": _layer(pair.standard),
            "factorized": _layer(pair.factorized),
        }


def _layer(layer: LayerCost) -> dict[str, Any]:
    return {
        "macs": layer.macs,
        "parameters": layer.parameters,
        "cost": layer.cost,
        "mac_rate": layer.mac_rate,
        "turns": list(layer.turns),
        "largest_error": layer.error,
        "kernels": [vars(kernel) for kernel in layer.kernels],
    }

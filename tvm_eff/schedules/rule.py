"""What a design-space rule is, and the small vocabulary rules are written in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules.packing import Packing
from tvm_eff.targets import Target

MOST_VECTORS = 4
"""Instructions that one vector of :func:`split_vector` is split into."""


@dataclass(frozen=True)
class Candidate:
    """One point of a rule's design space: a value for each sampled decision.

    Attributes
    ----------
    rule
        The name of the rule that applies it.
    decisions
        Pairs of decision name and value, in the order they are sampled.
    """

    rule: str
    decisions: tuple[tuple[str, int], ...]

    @staticmethod
    def of(rule: str, decisions: Mapping[str, int]) -> Candidate:
        """Build a candidate from a mapping; records keep the rule's name among the decisions."""
        assert "rule" not in decisions
        return Candidate(rule, tuple(decisions.items()))

    def __getitem__(self, name: str) -> int:
        return dict(self.decisions)[name]

    def as_dict(self) -> dict[str, int]:
        """Return the decisions as a mapping, for a record."""
        return dict(self.decisions)

    def __str__(self) -> str:
        inner = ", ".join(f"{name}={value}" for name, value in self.decisions)
        return f"{self.rule}({inner})"


@dataclass(frozen=True)
class Alternative:
    """Another function of the same result as a kernel, which takes a weight transformed.

    Attributes
    ----------
    name
        What it does otherwise.
    func
        The function, with the kernel's parameters but for the weight.
    weight_parameter
        Which parameter is the weight.
    transform
        The function that transforms the kernel's weight.
    """

    name: str
    func: PrimFunc
    weight_parameter: int
    transform: PrimFunc


class Rule(Protocol):
    """A family of schedules for the PrimFuncs it matches on one target."""

    @property
    def name(self) -> str:
        """The rule's name in records."""

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the design space, the most promising first; empty if `func` is not matched."""

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the layouts the schedule gives constant weights, of those it changes."""

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule the function ``main`` of `sch`, sampling `candidate`'s decisions."""


def sample(sch: Schedule, values: Iterable[int], value: int) -> Any:
    """Record in the trace that `value` was chosen among `values`.

    Returns
    -------
    tvm.s_tir.schedule.ExprRV
        The random variable, for the primitives that take one.
    """
    choices = sorted({*values, value})
    weights = [1.0 / len(choices)] * len(choices)
    return sch.sample_categorical(choices, weights, decision=choices.index(value))


def divisors(number: int, limit: int) -> list[int]:
    """Return the divisors of `number` up to `limit`, ascending."""
    return [d for d in range(1, min(number, limit) + 1) if number % d == 0]


def vector_length(extent: int, lanes: int) -> int:
    """Return the longest power of two up to `lanes` that divides `extent`."""
    return math.gcd(extent, lanes)


def split_vector(extent: int, lanes: int) -> int:
    """Return the divisor of `extent` that, as one vector, is fewest instructions an element.

    LLVM splits it into those of `lanes` elements and what powers of two are left: 12 elements
    of 16 lanes are two instructions, where vectors of a power of two would be three.
    """

    def instructions(length: int) -> float:
        return (length // lanes + (length % lanes).bit_count()) / length

    return min(divisors(extent, MOST_VECTORS * lanes), key=instructions)

"""The interface of schedule rules, their candidates, and helpers for writing rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules.packing import Packing
from tvm_eff.targets import Target

MAX_SPLIT_VECTORS = 4
"""Native vectors that one vector of :func:`split_vector` may be split into."""


@dataclass(frozen=True)
class Candidate:
    """One point of a rule's design space: a value for each sampled decision.

    Attributes
    ----------
    rule
        The name of the rule that applies it.
    decisions
        Pairs of decision name and value, in sampling order.
    """

    rule: str
    decisions: tuple[tuple[str, int], ...]

    @staticmethod
    def of(rule: str, decisions: Mapping[str, int]) -> Candidate:
        """Build a candidate from a mapping; ``rule`` is reserved for the name in records."""
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
    """A function equivalent to a kernel that takes a transformed weight.

    Attributes
    ----------
    name
        The algorithm it uses.
    func
        The function; its parameters are the kernel's except for the weight.
    weight_parameter
        Index of the weight among the parameters.
    transform
        The function that transforms the kernel's weight.
    """

    name: str
    func: PrimFunc
    weight_parameter: int
    transform: PrimFunc


class Rule(Protocol):
    """A parametrized schedule for the PrimFuncs that it matches on a target."""

    @property
    def name(self) -> str:
        """The rule's name in records."""

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the design space, the most promising first; empty if `func` is not matched."""

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the layouts of the constant weights that the schedule changes."""

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` of `sch` with the decisions of `candidate`."""


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
    """Return the divisor of `extent` that, as one vector, takes fewest instructions an element.

    LLVM splits a vector into native ones of `lanes` elements and a remainder of powers of
    two: 12 elements of 16 lanes are two instructions, power-of-two vectors would be three.
    """

    def instructions(length: int) -> float:
        return (length // lanes + (length % lanes).bit_count()) / length

    return min(divisors(extent, MAX_SPLIT_VECTORS * lanes), key=instructions)

"""What a bisection of a library found, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_eff.deploy.bisect.difference import Difference
from tvm_eff.deploy.bundle import Bundle


@dataclass(frozen=True)
class Finding:
    """The first kernel that is wrong.

    Attributes
    ----------
    number
        Its place among the library's calls, from 0.
    kernel
        Its name in the library.
    lowered
        Its name as lowered.
    label
        What it computes, for people.
    operators
        PyTorch's operators that it computes, each with its module and line; empty if its value
        is none of PyTorch's.
    schedule
        Its candidate; None if the bundle does not say.
    difference
        How far its result is from the one expected; None if it has none, or if only its weights
        are wrong.
    failure
        Why it has no result, if it has none.
    cause
        What is wrong with it, as far as that is known.
    script
        A script that shows it.
    """

    number: int
    kernel: str
    lowered: str
    label: str
    operators: tuple[str, ...]
    schedule: str | None
    difference: Difference | None
    failure: str | None
    cause: str
    script: Path

    def lines(self) -> list[tuple[str, str]]:
        """Return it for people: what, and what of it."""
        shown = self.failure or self.difference
        operators = self.operators or ("none of PyTorch's values is its result",)
        return [
            ("kernel", f"{self.kernel} ({self.label})"),
            *(("computes", each) for each in operators),
            ("schedule", self.schedule or "unknown: the bundle does not say"),
            ("difference", str(shown or "none on the golden inputs")),
            ("cause", self.cause),
            ("script", f"python {self.script}"),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            **vars(self),
            "operators": list(self.operators),
            "difference": None if self.difference is None else self.difference.as_dict(),
            "script": str(self.script),
        }


@dataclass(frozen=True)
class Bisection:
    """What came out.

    Attributes
    ----------
    bundle
        The bundle.
    where
        The device, in words.
    compared, kernels
        How many of the library's kernel calls were compared, and how many there are.
    finding
        The first kernel that is wrong; None if all are right.
    whole
        What is wrong with the library as a whole, if all its kernels are right.
    """

    bundle: Bundle
    where: str
    compared: int
    kernels: int
    finding: Finding | None
    whole: str | None

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return self.finding is None and self.whole is None

    def text(self) -> str:
        """Return it for people."""
        made = self.bundle.manifest
        title = f"{made.model} for {made.target.name}, on {self.where}"
        if self.finding is not None:
            head = f"kernel {self.finding.number + 1} of {self.kernels} is the first that is wrong"
            lines = [f"{what:11} {text}" for what, text in self.finding.lines()]
            return "\n".join([f"{title}: {head}", *lines])
        if self.whole is not None:
            return (
                f"{title}: each of its {self.kernels} kernels is right, and the whole is not: "
                f"{self.whole}; what calls them, or the plan of its memory, is wrong"
            )
        return f"{title}: all {self.kernels} kernels are right, and so is the whole"

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        made = self.bundle.manifest
        return {
            "bundle": str(self.bundle.folder),
            "model": made.model,
            "target": made.target.name,
            "where": self.where,
            "right": self.right,
            "compared": self.compared,
            "kernels": self.kernels,
            "finding": None if self.finding is None else self.finding.as_dict(),
            "whole": self.whole,
        }

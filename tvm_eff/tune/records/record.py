"""One measured candidate, and what its values hold for."""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import dataclass

from tvm_eff.device import MachineIdentity, Unit
from tvm_eff.schedules import Candidate
from tvm_eff.tune.records.generation import Generation


@dataclass(frozen=True)
class Record:
    """One measured candidate.

    Attributes
    ----------
    workload
        Structural hash of the kernel.
    task
        The kernel's name where it was met first, for people.
    candidate
        What was measured.
    unit
        ``seconds`` or ``instructions``.
    values
        The values measured; empty for a failure.
    machine
        Where it was measured.
    generation
        What made the code that was measured.
    failure
        Why the candidate cannot be used, or None.
    error
        Largest difference from the reference, as a fraction of its spread.
    """

    workload: str
    task: str
    candidate: Candidate
    unit: Unit
    values: tuple[float, ...]
    machine: MachineIdentity
    generation: Generation
    failure: str | None = None
    error: float | None = None

    @property
    def value(self) -> float:
        """The median of the values, the upper one of two; infinite for a failure."""
        if self.failure is not None or not self.values:
            return float("inf")
        return statistics.median_high(self.values)


def digest(candidate: Candidate) -> str:
    """Return a short name for a candidate that was measured and is not kept."""
    return hashlib.sha256(str(candidate).encode()).hexdigest()[:8]

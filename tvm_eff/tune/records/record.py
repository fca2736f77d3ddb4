"""One measured candidate, and which measurements may be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from tvm_eff.device import Unit
from tvm_eff.schedules import Candidate

Machine = tuple[str, ...]
"""What tells machines apart whose values must not be compared."""


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
    failure
        Why the candidate cannot be used, or None.
    error
        Largest difference from the reference, as a fraction of its spread.
    device
        Where it was measured.
    versions
        The versions of what produced it.
    """

    workload: str
    task: str
    candidate: Candidate
    unit: Unit
    values: tuple[float, ...]
    failure: str | None = None
    error: float | None = None
    device: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the values; infinite for a failure."""
        if self.failure is not None or not self.values:
            return float("inf")
        ordered = sorted(self.values)
        return ordered[len(ordered) // 2]

    @property
    def machine(self) -> Machine:
        """Which machine its value belongs to."""
        return machine(self.device, self.unit)


def machine(device: Mapping[str, str], unit: Unit) -> Machine:
    """Return what tells a device's values apart from those of others.

    Parameters
    ----------
    device
        The fields of its fingerprint.
    unit
        The unit of the values. Instructions are the same wherever they are counted.
    """
    names = ("kind", "where") if unit == "seconds" else ("kind", "cpu")
    return tuple(device.get(name, "") for name in names)


def digest(candidate: Candidate) -> str:
    """Return a short name for a candidate that was measured and is not kept."""
    return hashlib.sha256(str(candidate).encode()).hexdigest()[:8]

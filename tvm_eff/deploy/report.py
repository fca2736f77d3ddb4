"""What a compilation found: kernels, costs, and where they were measured."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_eff.device import Measurement
from tvm_eff.targets import Target
from tvm_eff.tune import TaskResult


@dataclass(frozen=True)
class CompileReport:
    """What came out beside the bundle.

    Attributes
    ----------
    target
        What it was built for.
    dtype
        What it computes in.
    tasks
        What was found for each kernel, and is in the library.
    fastest
        The same, had the library no bound to keep.
    where
        The device of all figures, in words.
    ran_elsewhere
        Whether that device is no board of the target's, nor emulates one.
    measurement
        What an inference costs.
    measured, failed
        Candidates measured now, and how many of them failed.
    seconds
        How long everything took.
    virtual_machine
        Why TVM's virtual machine runs the library, in words; None if its own code does.
    undecided
        Inputs on which the library differs from PyTorch by what rounding decides alone.
    """

    target: Target
    dtype: str
    tasks: list[TaskResult]
    fastest: list[TaskResult]
    where: str
    ran_elsewhere: bool
    measurement: Measurement
    measured: int
    failed: int
    seconds: float
    virtual_machine: str | None
    undecided: int = 0

    @property
    def kernels_before(self) -> float:
        """What all kernels cost unscheduled, in the measurement's unit; NaN if not measured."""
        return sum(each.value_before * each.task.calls for each in self.tasks)

    @property
    def kernels_after(self) -> float:
        """What all kernels cost now, in the measurement's unit; NaN if one was not measured."""
        return sum(each.value * each.task.calls for each in self.tasks)

    @property
    def kernels_unbounded(self) -> float:
        """What all kernels would cost, had the library no bound to keep."""
        return sum(each.value * each.task.calls for each in self.fastest)

    @property
    def priors(self) -> list[TaskResult]:
        """The kernels whose values are another machine's or other code's."""
        return [each for each in self.tasks if each.is_prior]

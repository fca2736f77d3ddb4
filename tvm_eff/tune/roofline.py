"""The roofline bound of a kernel: its multiply-adds at the device's peak."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from tvm_eff.device import Device
from tvm_eff.errors import BuildError, ExecutionError
from tvm_eff.schedules import analysis
from tvm_eff.targets import Target
from tvm_eff.tune.peak import measure_peak
from tvm_eff.tune.task import Task

logger = logging.getLogger(__name__)


FEWEST = {"seconds": 1e-9, "instructions": 10.0}
"""What no call of a kernel is below, whatever it computes: a few cycles. (A product of 12 values
took 7 ns on an AMD EPYC.)"""

SAVING = 16.0
"""How many times less than by the peak a kernel may take: Winograd's algorithm saves up to five
multiplications of six, Strassen's one of eight, and a clock may be higher than is known."""


@dataclass(frozen=True)
class RooflineBound:
    """A lower bound of one call of a kernel that multiplies each input by each weight.

    Attributes
    ----------
    lanes
        Values in a vector.
    rate
        Vector multiply-adds in one unit of cost: 1 an instruction, or what all cores
        together do in a second.
    """

    lanes: int
    rate: float
    _known: dict[str, float] = field(default_factory=dict, repr=False)

    def __call__(self, task: Task) -> float:
        """Return the bound; 0 for a kernel that is no convolution or dense layer."""
        if task.name not in self._known:
            vectors = analysis.multiply_adds(task.func) / self.lanes
            self._known[task.name] = vectors / self.rate
        return self._known[task.name]


def roofline_bound(target: Target, device: Device) -> RooflineBound:
    """Return the bound on a device, by the peak that is measured on it if it measures seconds.

    Raises
    ------
    DeviceError
        The device is gone.
    """
    known = device.known_peak(target)
    if known is not None:
        return RooflineBound(target.lanes, known)
    try:
        rate = measure_peak(target, device)
    except (BuildError, ExecutionError) as error:
        logger.warning("the peak is the target file's, as it cannot be measured: %s", error)
        rate = target.hardware.peak_fma_per_second
    return RooflineBound(target.lanes, rate)


def least_value(task: Task, target: Target, device: Device) -> float:
    """Return what no call of a kernel can be below on a device, in its unit.

    A value below it was not measured: somebody wrote it, or a clock was wrong.
    """
    rate = device.known_peak(target) or target.hardware.peak_fma_per_second
    vectors = analysis.multiply_adds(task.func) / target.lanes
    return max(FEWEST[device.unit], vectors / rate / SAVING)

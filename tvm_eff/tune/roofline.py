"""The least a kernel can cost: its multiply-adds, if nothing else took any time."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

from tvm_eff.device import Device
from tvm_eff.errors import BuildError, ExecutionError
from tvm_eff.schedules import analysis
from tvm_eff.targets import Gpu, Hardware, Target
from tvm_eff.tune.peak import measure_peak
from tvm_eff.tune.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Floor:
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


def floor_of(target: Target, device: Device) -> Floor:
    """Return the floor on a device, by the peak that is measured on it if it measures seconds.

    Raises
    ------
    DeviceError
        The device is gone.
    """
    hardware = target.hardware
    if target.gpu is not None:
        # What stands in for a board has another peak.
        return Floor(
            target.lanes, _gpu_peak(target.gpu) if device.fingerprint.kind == "rpc" else math.inf
        )
    if device.unit == "instructions":
        return Floor(hardware.lanes, 1.0)
    try:
        rate = measure_peak(target, device)
    except (BuildError, ExecutionError) as error:
        logger.warning("the peak is the target file's, as it cannot be measured: %s", error)
        rate = _stated_peak(hardware)
    return Floor(hardware.lanes, rate)


def _gpu_peak(gpu: Gpu) -> float:
    return gpu.fma_per_cycle / gpu.lanes * gpu.clock_ghz * 1e9 * gpu.cores


def _stated_peak(hardware: Hardware) -> float:
    return hardware.fma_per_cycle * hardware.clock_ghz * 1e9 * hardware.cores

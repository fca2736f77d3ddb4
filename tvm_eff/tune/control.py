"""Is a failure the candidate's own? What worked before is run again to find out.

A process that was stopped for a minute, a board that lost its memory, a machine that ran out of
it: each makes candidates crash or hang that are right. As long as nothing at all has worked,
there is nothing to compare with, and such failures are held back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvm_eff.codegen.compile import KERNEL
from tvm_eff.device import Device
from tvm_eff.errors import DeviceError, ExecutionError
from tvm_eff.tune.records.store import Record
from tvm_eff.tune.task import Task

MOST_UNCONFIRMED = 8
"""Failures after which a session ends in which nothing has worked."""


@dataclass(frozen=True)
class _Proven:
    """A candidate that worked, as it can be run again."""

    task: Task
    library: Path
    inputs: Sequence[np.ndarray]


class Control:
    """Confirms failures before they are put on record.

    Parameters
    ----------
    device
        Where candidates are measured.
    add
        Puts a record on record.
    """

    def __init__(self, device: Device, add: Callable[[Record], None]) -> None:
        self._device, self._add = device, add
        self._proven: _Proven | None = None
        self._unconfirmed: list[Record] = []

    @property
    def library(self) -> Path | None:
        """The library that is run again, which must stay where it is."""
        return None if self._proven is None else self._proven.library

    def worked(self, record: Record, task: Task, library: Path, inputs: list[np.ndarray]) -> None:
        """Record what worked, and the failures that were held back until something did."""
        self._proven = _Proven(task, library, inputs)
        for each in (*self._unconfirmed, record):
            self._add(each)
        self._unconfirmed.clear()

    def failed(self, record: Record, *, own: bool) -> None:
        """Record a failure, if it is the candidate's own.

        Parameters
        ----------
        record
            Of the failure.
        own
            Whether that is known: the result was wrong, or the schedule does not apply.

        Raises
        ------
        DeviceError
            What worked before fails as well, or nothing has worked and much has failed.
        """
        if own:
            self._add(record)
        elif self._proven is not None:
            self._run_again(self._proven, record)
            self._add(record)
        else:
            self._unconfirmed.append(record)
            if len(self._unconfirmed) >= MOST_UNCONFIRMED:
                raise DeviceError(
                    f"the first {MOST_UNCONFIRMED} candidates all failed on {self._device.where}, "
                    f"the last one so: {record.failure}; none of them is on record: look after "
                    "the device, and run the same command again"
                )

    def _run_again(self, proven: _Proven, record: Record) -> None:
        try:
            self._device.call(proven.library, KERNEL, proven.inputs, proven.task.outputs)
        except ExecutionError as error:
            raise DeviceError(
                f"{record.failure}; then what had worked before failed as well on "
                f"{self._device.where}: {error}; the candidate is not on record: look after the "
                "device, and run the same command again"
            ) from error

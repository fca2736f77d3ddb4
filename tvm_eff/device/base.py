"""What every device offers: call a function of a library, and say what the call cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from typing_extensions import Self

from tvm_eff.device.identity import MachineIdentity
from tvm_eff.device.opencl import OpenCLDevice
from tvm_eff.targets import Target
from tvm_eff.tensors import TensorSpec

Unit = Literal["seconds", "instructions"]


@dataclass(frozen=True)
class MeasureOptions:
    """How long to measure on a device that measures seconds.

    A device that counts instructions counts one warm call and needs none of these.

    Attributes
    ----------
    repeat
        How many values to report, at most.
    min_repeat_ms
        Each value is the mean over as many calls as fill this time.
    budget_s
        The repeats may take about this long together; a slow function is
        repeated less often, one that takes longer than this is timed once.
    stop_above
        A function that takes longer than this many seconds at a short look, the best of
        several of a millisecond, is not looked at any further.
    """

    repeat: int = 5
    min_repeat_ms: float = 20.0
    budget_s: float = 1.0
    stop_above: float = float("inf")


@dataclass(frozen=True)
class Measurement:
    """What one call cost, once or several times."""

    values: tuple[float, ...]
    unit: Unit

    @property
    def median(self) -> float:
        """The middle value."""
        return self.percentile(50)

    def percentile(self, percent: float) -> float:
        """Return the value below which `percent` of the values lie, such as 10 or 90."""
        return float(np.percentile(self.values, percent))


@dataclass(frozen=True)
class Contender:
    """One of several libraries of the same function, and the inputs it takes."""

    library: Path
    inputs: Sequence[np.ndarray]


class Device(ABC):
    """A place where compiled code runs and is measured.

    Open it with ``with``, or with :meth:`open` and :meth:`close`; both may be
    called again. One call at a time: a device is not to be shared by threads.

    After an :class:`~tvm_eff.errors.ExecutionError` the device is ready for the
    next call; after a :class:`~tvm_eff.errors.DeviceError` it is not.
    """

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """What this device measures in."""

    @property
    @abstractmethod
    def identity(self) -> MachineIdentity:
        """The machine that values in seconds belong to. The device must be open."""

    @property
    @abstractmethod
    def where(self) -> str:
        """The device in words, for people. It must be open."""

    @property
    def repeatable(self) -> bool:
        """Whether the same code costs the same each time, so that one value says it all."""
        return False

    @property
    def disturbed_by_builds(self) -> bool:
        """Whether what this machine compiles meanwhile changes what is measured."""
        return False

    @property
    def stands_in(self) -> bool:
        """Whether it runs a target's code without being one, so that values are a hint only."""
        return False

    @property
    def architecture(self) -> str | None:
        """What its programs are compiled for, such as ``aarch64``; None if that is not known."""
        return None

    def known_peak(self, target: Target) -> float | None:
        """Return the vector multiply-adds in one unit of cost; None if they must be measured.

        Infinite where nothing is known that would bound a kernel's cost.
        """
        return None

    @property
    def opencl_device(self) -> OpenCLDevice | None:
        """The OpenCL device that functions run on; None if they run on the processor."""
        return None

    @abstractmethod
    def open(self) -> None:
        """Start or reach the device.

        Raises
        ------
        DeviceError
            It cannot be started or reached.
        SetupError
            This machine lacks what the device needs.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the device and leave nothing behind."""

    @abstractmethod
    def health(self) -> None:
        """Check that the device answers.

        Raises
        ------
        DeviceError
            It does not.
        """

    @abstractmethod
    def call(
        self,
        library: Path,
        symbol: str,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[TensorSpec],
        *,
        measure: MeasureOptions | None = None,
        keep: bool = False,
    ) -> tuple[list[np.ndarray], Measurement | None]:
        """Run a function that takes its inputs, then its outputs to fill.

        Floating-point outputs hold NaN before the call, so a function that
        writes nothing, or not everywhere, is seen.

        Parameters
        ----------
        library
            The shared library, compiled for the device.
        symbol
            The function's name in it.
        inputs
            The inputs.
        outputs
            What the outputs look like.
        measure
            Whether and how to measure, after the call whose outputs are returned.
        keep
            Whether the inputs stay on the device, from where the next call takes those
            that are the same objects; they must not change meanwhile. The device keeps
            what the last such call was given, until :meth:`forget`.

        Returns
        -------
        tuple
            The outputs, and the measurement if there is one.

        Raises
        ------
        ExecutionError
            The library cannot be loaded, or the function crashes, raises or
            takes longer than the device's timeout; the device is well again.
        DeviceError
            The device is gone.
        UsageError
            The library cannot be read.
        """

    @abstractmethod
    def forget(self) -> None:
        """Let go of what :meth:`call` and :meth:`run` kept on the device."""

    @abstractmethod
    def compare(
        self,
        contenders: Sequence[Contender],
        symbol: str,
        outputs: Sequence[TensorSpec],
        *,
        rounds: int,
        min_repeat_ms: float,
    ) -> list[Measurement]:
        """Time libraries of one function that take turns, on a device that measures seconds.

        What disturbs the device for a while then disturbs all of them alike.

        Parameters
        ----------
        contenders
            The libraries, and what each is called with.
        symbol
            The function's name in all of them.
        outputs
            What the outputs look like.
        rounds
            How many turns each takes, and values it gets.
        min_repeat_ms
            How long a turn is.

        Raises
        ------
        ExecutionError, DeviceError, UsageError
            As for :meth:`call`.
        """

    @abstractmethod
    def run(
        self,
        library: Path,
        inputs: Sequence[np.ndarray],
        *,
        function: str = "main",
        measure: MeasureOptions | None = None,
        keep: bool = False,
    ) -> tuple[list[np.ndarray], Measurement | None]:
        """Run a function of a compiled Relax module.

        Parameters
        ----------
        library
            The shared library, compiled for the device.
        inputs
            The inputs.
        function
            The function's name.
        measure
            Whether and how to measure, after the call whose outputs are returned.
        keep
            Whether the library stays loaded on the device, from where the next such run, or
            :meth:`call`, takes it if it is the same; until another one, or :meth:`forget`.

        Returns
        -------
        tuple
            The outputs, a tuple's fields in order, and the measurement if there is one.

        Raises
        ------
        ExecutionError, DeviceError, UsageError
            As for :meth:`call`.
        """

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

"""The OpenCL device of this machine: a GPU with its driver, or one in software."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from tvm_eff.device import opencl
from tvm_eff.device.identity import MachineIdentity
from tvm_eff.device.local import LocalDevice
from tvm_eff.device.opencl import OpenCLDevice
from tvm_eff.errors import DeviceError
from tvm_eff.targets import Target

# A server never lets go of a library, nor a driver of its programs: a process of the server's
# serves this many calls.
_CALLS = 200


class LocalOpenCLDevice(LocalDevice):
    """Runs kernels on this machine's OpenCL device, in a process of its own; measures seconds.

    The system's driver is used, or else a software device that is installed: the first
    that has what is needed.

    Parameters
    ----------
    extensions
        What the device must have, such as ``cl_khr_fp16``.
    driver
        Which software driver to use, by its name; the first that will do if not given.
    timeout
        How long one call may take, upload and measurement included, in seconds.
    """

    def __init__(
        self, extensions: Sequence[str] = (), driver: str | None = None, timeout: float = 120.0
    ) -> None:
        super().__init__(timeout=timeout, device_type="opencl")
        self._extensions = frozenset(extensions)
        self._driver = driver
        self._calls = 0

    @property
    @override
    def identity(self) -> MachineIdentity:
        found = self._found()
        return replace(super().identity, gpu=f"{found.driver}, {found.driver_version}")

    @property
    @override
    def where(self) -> str:
        found = self._found()
        if found.is_cpu:
            return f"{found.driver} on {super().where}"
        return f"{found.name} ({found.driver})"

    @property
    @override
    def stands_in(self) -> bool:
        return self.opencl_device is not None and self.opencl_device.is_cpu

    @override
    def known_peak(self, target: Target) -> float | None:
        # What stands in for a board has another peak.
        return math.inf

    def _found(self) -> OpenCLDevice:
        if self.opencl_device is None:
            raise DeviceError("the device is not open; use it in a 'with' statement")
        return self.opencl_device

    @override
    def open(self) -> None:
        if self.opencl_device is not None:
            return
        self._libraries = (opencl.build(),)
        troubles = []
        for driver in self._choices():
            self._variables = dict(opencl.environment(*driver))
            trouble = self._trouble()
            if trouble is None:
                return
            troubles.append(trouble)
            self.close()
        raise DeviceError(
            # The first choice may be one of the others.
            f"no OpenCL device of this machine will do: {'; '.join(dict.fromkeys(troubles))}. "
            "Devices in software: sudo apt-get install libpocl2, which has no float16; or, on an "
            "x86-64 Linux, pip install intel-opencl-rt intel-cmplr-lib-rt, which has it"
        )

    def _trouble(self) -> str | None:
        """Open the device; return why it cannot be used, if that is so."""
        try:
            super().open()
        except DeviceError as error:
            return str(error)
        found = self._opencl_device
        assert found is not None, "it was found, or it could not be opened"
        missing = self._extensions - set(found.extensions.split())
        return f"{found.driver} has no {', '.join(sorted(missing))}" if missing else None

    def _choices(self) -> list[tuple[str, ...]]:
        if self._driver is not None:
            return [(self._driver,)]
        return [(), *((name,) for name in opencl.software_drivers())]

    def _renew(self) -> None:
        self._calls += 1
        if self._calls % _CALLS == 0 and self._connection is not None:
            self.forget()
            self._connection.close()
            self._connection = self._connect()

"""The plug-in in a process: loaded once, and what devices it then finds."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tvm_eff.device.opencl import plugin
from tvm_eff.device.opencl.drivers import driver, software_drivers
from tvm_eff.errors import DeviceError, Error

# Read by the plug-in when a device is first used; see runtime/opencl/driver.cc.
_LIBRARY = "TVM_EFF_OPENCL_LIBRARY"
_FALLBACK = "TVM_EFF_OPENCL_FALLBACK"

_SHORT_NAMES = {"Portable Computing Language": "PoCL"}

_loaded: list[ctypes.CDLL] = []


@dataclass(frozen=True)
class OpenCLDevice:
    """A device, its driver and its limits; sizes are in bytes."""

    library: str
    platform: str
    name: str
    version: str
    driver_version: str
    extensions: str
    is_cpu: bool
    compute_units: int
    clock_mhz: int
    work_group: int
    local_memory: int
    global_memory: int
    allocation: int
    alignment: int
    cache: int
    allocated: int

    @property
    def has_float16(self) -> bool:
        """Whether kernels may compute in half precision."""
        return "cl_khr_fp16" in self.extensions.split()

    @property
    def driver(self) -> str:
        """The driver in words, such as ``PoCL 3.0``."""
        platform = _SHORT_NAMES.get(self.platform, self.platform)
        return f"{platform} {self.driver_version}"


def describe(ask: Callable[[str], Any]) -> OpenCLDevice:
    """Return a device of another process.

    Parameters
    ----------
    ask
        Returns the plug-in's value of an attribute, by its name.
    """
    return OpenCLDevice(**{field.name: ask(field.name) for field in fields(OpenCLDevice)})


def load(*drivers: str | Path) -> Path:
    """Make OpenCL devices work in this process; a second call changes nothing.

    Parameters
    ----------
    drivers
        The drivers to use: names of :func:`software_drivers`, or paths of libraries. If
        none is given, the system's is used, or else what software driver is installed.

    Returns
    -------
    Path
        The plug-in's library, which is built first if need be.

    Raises
    ------
    SetupError
        A driver, the compiler or TVM is missing.
    BuildError
        The plug-in does not compile.
    """
    library = plugin.build()
    os.environ.update(environment(*drivers))
    _load(library)
    return library


def environment(*drivers: str | Path) -> Mapping[str, str]:
    """Return the variables that make a process use certain drivers, as :func:`load` does."""
    if drivers:
        paths = [driver(each) if isinstance(each, str) else each for each in drivers]
        return {_LIBRARY: ":".join(map(str, paths))}
    return {_FALLBACK: ":".join(map(str, software_drivers().values()))}


def autoload() -> None:
    """Load the plug-in if it was built before: TVM calls this at its import."""
    # Whoever imports TVM for something else is not to be bothered.
    with suppress(Error):
        library = plugin.built()
        if library is None:
            return
        for name, value in environment().items():
            os.environ.setdefault(name, value)
        _load(library)


def devices() -> tuple[OpenCLDevice, ...]:
    """Return the devices that there are, ``opencl:0`` first; :func:`load` comes before.

    Raises
    ------
    DeviceError
        There is no driver or no device, or the plug-in is not loaded.
    """
    import tvm

    count = tvm.get_global_func("tvm_eff.opencl.count", allow_missing=True)
    if count is None:
        raise DeviceError(
            "the OpenCL plug-in is not loaded; call tvm_eff.device.opencl.load() first"
        )
    try:
        number = count()
    except RuntimeError as error:
        raise DeviceError(str(error)) from error
    described = tvm.get_global_func("tvm_eff.opencl.describe")
    return tuple(describe(described(index).__getitem__) for index in range(number))


def trouble(number: int) -> str:
    """Return why a device of :func:`devices` cannot compile kernels; empty if it can."""
    import tvm

    return str(tvm.get_global_func("tvm_eff.opencl.trouble")(number))


def _load(library: Path) -> None:
    if _loaded:
        return
    # TVM's runtime, whose functions the plug-in calls, must be there first.
    import tvm  # noqa: F401

    try:
        _loaded.append(ctypes.CDLL(str(library), ctypes.RTLD_LOCAL))
    except OSError as error:
        raise DeviceError(
            f"the OpenCL plug-in cannot be loaded: {error}; it is made anew when its folder "
            f"{library.parent} is removed"
        ) from error

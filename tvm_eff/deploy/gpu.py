"""Which GPU runs a bundle's kernels, and why another one does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tvm_eff.device import opencl
from tvm_eff.device.opencl import OpenCLDevice
from tvm_eff.errors import BundleError
from tvm_eff.targets import OpenCLRequirements


def find(requirements: OpenCLRequirements, library: Path) -> Any:
    """Return this machine's first OpenCL device, a ``tvm.Device``, that runs a library's kernels.

    Raises
    ------
    BundleError
        None of them has what the kernels need, or works.
    DeviceError, SetupError, BuildError
        There is no driver, or the plug-in cannot be built or loaded.
    """
    opencl.load()
    import tvm

    reasons = []
    for number, device in enumerate(opencl.devices()):
        lacking = opencl.unmet_requirements(requirements, device)
        if lacking:
            reasons.append(_lacks(device, lacking))
            continue
        reason = opencl.trouble(number)
        if not reason:
            return tvm.device("opencl", number)
        reasons.append(f"{device.name} ({device.driver}) does not work: {reason}")
    raise BundleError(f"{library} does not run on this machine: {'; '.join(reasons)}; {_ADVICE}")


def require(
    requirements: OpenCLRequirements | None, device: OpenCLDevice | None, library: Path
) -> None:
    """Refuse a device that a library's kernels do not run on.

    Parameters
    ----------
    requirements
        What the library needs; None if it runs on the processor.
    device
        Where it is to run, such as :attr:`tvm_eff.device.Device.opencl_device`.
    library
        The library, for the message.

    Raises
    ------
    BundleError
        The device lacks something; the message names all of it.
    """
    if requirements is None:
        return
    if device is None:
        raise BundleError(f"{library} needs an OpenCL device, and was to run on a processor")
    lacking = opencl.unmet_requirements(requirements, device)
    if lacking:
        raise BundleError(f"{library} does not run there: {_lacks(device, lacking)}; {_ADVICE}")


_ADVICE = "build the bundle for a target with this device's limits, or in float32"


def _lacks(device: OpenCLDevice, lacking: tuple[str, ...]) -> str:
    return f"{device.name} ({device.driver}) lacks {' and '.join(lacking)}"

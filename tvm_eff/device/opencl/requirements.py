"""Whether an OpenCL device has what compiled kernels ask of it."""

from __future__ import annotations

import re

from tvm_eff.device.opencl.loading import OpenCLDevice
from tvm_eff.targets.opencl_requirements import OpenCLRequirements


def unmet_requirements(requirements: OpenCLRequirements, device: OpenCLDevice) -> tuple[str, ...]:
    """Return in words what a device lacks; nothing if it has all that is needed."""
    extensions = device.extensions.split()
    lacking = [
        f"the extension {name}" for name in requirements.extensions if name not in extensions
    ]
    if _numbers(device.version) < _numbers(requirements.version):
        lacking.append(f"OpenCL {requirements.version} (it has '{device.version}')")
    if device.work_group < requirements.work_group:
        lacking.append(
            f"work-groups of {requirements.work_group} work-items (it allows {device.work_group})"
        )
    if device.local_memory < requirements.local_memory:
        lacking.append(
            f"{requirements.local_memory} bytes of local memory (it has {device.local_memory})"
        )
    return tuple(lacking)


def _numbers(version: str) -> tuple[int, ...]:
    """The version in ``OpenCL 3.0 PoCL 6.0``; the lowest if there is none."""
    found = re.search(r"(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else (0, 0)

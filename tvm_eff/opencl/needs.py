"""What compiled OpenCL kernels need of a device, and whether a device has it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tvm_eff.opencl.loading import OpenCLDevice


@dataclass(frozen=True)
class OpenCLNeeds:
    """What a device must have to run a library's kernels.

    Attributes
    ----------
    version
        The version of OpenCL that the kernels are written in.
    extensions
        Extensions that they use, such as ``cl_khr_fp16``.
    work_group
        Work-items of the largest work-group.
    local_memory
        Bytes of local memory that a work-group uses at most.
    """

    version: str
    extensions: tuple[str, ...]
    work_group: int
    local_memory: int


def missing(needs: OpenCLNeeds, device: OpenCLDevice) -> tuple[str, ...]:
    """Return in words what a device lacks; nothing if it has all that is needed."""
    extensions = device.extensions.split()
    lacking = [f"the extension {name}" for name in needs.extensions if name not in extensions]
    if _numbers(device.version) < _numbers(needs.version):
        lacking.append(f"OpenCL {needs.version} (it has '{device.version}')")
    if device.work_group < needs.work_group:
        lacking.append(
            f"work-groups of {needs.work_group} work-items (it allows {device.work_group})"
        )
    if device.local_memory < needs.local_memory:
        lacking.append(f"{needs.local_memory} bytes of local memory (it has {device.local_memory})")
    return tuple(lacking)


def _numbers(version: str) -> tuple[int, ...]:
    """The version in ``OpenCL 3.0 PoCL 6.0``; the lowest if there is none."""
    found = re.search(r"(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else (0, 0)

"""What compiled OpenCL kernels ask of the device that runs them."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_eff.strict import Count


@dataclass(frozen=True)
class OpenCLRequirements:
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
    work_group: Count
    local_memory: Count

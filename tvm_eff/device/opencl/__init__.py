"""OpenCL devices for TVM's wheels: a plug-in of our own, built on demand and loaded.

TVM's wheels generate OpenCL code and cannot run it. ``load()`` gives this process the
runtime; then ``tvm.device("opencl")`` works as any other device does.
"""

from tvm_eff.device.opencl.drivers import software_drivers
from tvm_eff.device.opencl.loading import (
    OpenCLDevice,
    describe,
    devices,
    environment,
    load,
    trouble,
)
from tvm_eff.device.opencl.plugin import build
from tvm_eff.device.opencl.requirements import unmet_requirements

__all__ = [
    "OpenCLDevice",
    "build",
    "describe",
    "devices",
    "environment",
    "load",
    "software_drivers",
    "trouble",
    "unmet_requirements",
]

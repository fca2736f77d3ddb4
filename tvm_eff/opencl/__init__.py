"""OpenCL devices for TVM's wheels: a plug-in of our own, built on demand and loaded.

TVM's wheels generate OpenCL code and cannot run it. ``load()`` gives this process the
runtime; then ``tvm.device("opencl")`` works as any other device does.
"""

from tvm_eff.opencl.drivers import software_drivers
from tvm_eff.opencl.loading import OpenCLDevice, describe, devices, environment, load, trouble
from tvm_eff.opencl.needs import OpenCLNeeds, missing
from tvm_eff.opencl.plugin import build

__all__ = [
    "OpenCLDevice",
    "OpenCLNeeds",
    "build",
    "describe",
    "devices",
    "environment",
    "load",
    "missing",
    "software_drivers",
    "trouble",
]

"""What tvm_eff compiles for: each target is one TOML file, read strictly.

A board is data: its TVM target attributes, the facts of its processor that the
design space is derived from, its toolchain, its emulated stand-in and its RPC
key. The file ``host.toml`` leaves out what :mod:`tvm_eff.targets.detect` finds out.
"""

from tvm_eff.targets.loading import launched_from_here, load, names
from tvm_eff.targets.opencl_requirements import OpenCLRequirements
from tvm_eff.targets.schema import (
    FLOAT32_BYTES,
    Emulator,
    Gpu,
    HalfHardware,
    Hardware,
    Rpc,
    Target,
    Toolchain,
)

__all__ = [
    "FLOAT32_BYTES",
    "Emulator",
    "Gpu",
    "HalfHardware",
    "Hardware",
    "OpenCLRequirements",
    "Rpc",
    "Target",
    "Toolchain",
    "launched_from_here",
    "load",
    "names",
]

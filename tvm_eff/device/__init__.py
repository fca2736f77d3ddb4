"""Where compiled code runs: this machine, a real board, an emulated board."""

from tvm_eff.device.base import (
    Contender,
    Device,
    Fingerprint,
    Measurement,
    MeasureOptions,
    Unit,
)
from tvm_eff.device.emulated import EmulatedDevice
from tvm_eff.device.local import LocalDevice
from tvm_eff.device.local_opencl import LocalOpenCLDevice
from tvm_eff.device.rpc import RpcDevice, parse_address
from tvm_eff.numerics import TensorSpec

__all__ = [
    "Contender",
    "Device",
    "EmulatedDevice",
    "Fingerprint",
    "LocalDevice",
    "LocalOpenCLDevice",
    "MeasureOptions",
    "Measurement",
    "RpcDevice",
    "TensorSpec",
    "Unit",
    "parse_address",
]

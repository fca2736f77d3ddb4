"""Where compiled code runs: this machine, a real board, an emulated board.

Names are looked up when they are first used: TVM calls the OpenCL plug-in of this package
while it is being imported itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_eff.device.base import Contender as Contender
    from tvm_eff.device.base import Device as Device
    from tvm_eff.device.base import Measurement as Measurement
    from tvm_eff.device.base import MeasureOptions as MeasureOptions
    from tvm_eff.device.base import Unit as Unit
    from tvm_eff.device.emulated import EmulatedDevice as EmulatedDevice
    from tvm_eff.device.identity import MachineIdentity as MachineIdentity
    from tvm_eff.device.local import LocalDevice as LocalDevice
    from tvm_eff.device.local_opencl import LocalOpenCLDevice as LocalOpenCLDevice
    from tvm_eff.device.rpc import RpcDevice as RpcDevice
    from tvm_eff.device.rpc import parse_address as parse_address
    from tvm_eff.device.selection import SelectedDevice as SelectedDevice
    from tvm_eff.device.selection import select as select

_MODULES = {
    "Contender": "base",
    "Device": "base",
    "EmulatedDevice": "emulated",
    "LocalDevice": "local",
    "LocalOpenCLDevice": "local_opencl",
    "MachineIdentity": "identity",
    "MeasureOptions": "base",
    "Measurement": "base",
    "RpcDevice": "rpc",
    "SelectedDevice": "selection",
    "Unit": "base",
    "parse_address": "rpc",
    "select": "selection",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

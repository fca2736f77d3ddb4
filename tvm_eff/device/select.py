"""Where a target's code is measured: here, on a board, or on what stands in for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm_eff import targets
from tvm_eff.device import (
    Device,
    EmulatedDevice,
    LocalDevice,
    LocalOpenCLDevice,
    RpcDevice,
    parse_address,
)
from tvm_eff.errors import DeviceError
from tvm_eff.targets import Target

FLOAT16_EXTENSION = "cl_khr_fp16"


class Progress(Protocol):
    """Hears of the making of an emulated board."""

    def advanced(self, what: str, done: int, count: int) -> None:
        """`done` of `count` parts of something long are done."""


@dataclass(frozen=True)
class Place:
    """A device, and what code must be compiled for to run on it.

    Attributes
    ----------
    device
        The device, not yet open.
    target
        The target itself; or, for a GPU without its board, the same GPU code launched by
        this machine's processor.
    opening
        What is done when the device is opened, in words.
    """

    device: Device
    target: Target
    opening: str


def find(
    target: Target, rpc: str | None, key: str, progress: Progress, dtype: str = "float32"
) -> Place:
    """Return where a target's code is measured.

    Parameters
    ----------
    target
        The target.
    rpc
        ``HOST:PORT`` of a real board. Without it the host measures itself, a board is
        emulated, and a GPU's kernels run on this machine's OpenCL device.
    key
        The key that server was started with.
    progress
        Hears of the making of the emulated board.
    dtype
        What is computed in.

    Raises
    ------
    DeviceError
        The address cannot be used, or the target cannot be emulated.
    """
    if rpc is not None:
        host, port = parse_address(rpc)
        device_type = "cpu" if target.gpu is None else "opencl"
        return Place(RpcDevice(host, port, key, device_type=device_type), target, _connecting(rpc))
    if target.gpu is not None:
        return _opencl(target, dtype)
    if target.is_host:
        device = LocalDevice(threads=target.hardware.cores)
        return Place(device, target, "starting a server on this machine")
    return _emulated(target, progress)


def _connecting(rpc: str) -> str:
    return f"connecting to {rpc}"


def _opencl(target: Target, dtype: str) -> Place:
    extensions = (FLOAT16_EXTENSION,) if dtype == "float16" else ()
    device = LocalOpenCLDevice(extensions)
    here = target if target.is_host else targets.launched_from_here(target)
    return Place(device, here, "starting a server with OpenCL on this machine")


def _emulated(target: Target, progress: Progress) -> Place:
    if target.emulator is None:
        raise DeviceError(
            f"{target.path} names no [emulator], so {target.name} cannot be emulated here; "
            "start tvm.exec.rpc_server on the board and give --rpc HOST:PORT"
        )
    device = EmulatedDevice(
        target.emulator.arch,
        target.emulator.cpu,
        on_progress=lambda done, count: progress.advanced("building its server", done, count),
    )
    return Place(device, target, f"starting the emulated {target.emulator.cpu}")

"""Which device runs a target's code: this machine, a board over RPC, or what stands in for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tvm_eff import targets
from tvm_eff.device.base import Device
from tvm_eff.device.emulated import EmulatedDevice
from tvm_eff.device.local import LocalDevice
from tvm_eff.device.local_opencl import LocalOpenCLDevice
from tvm_eff.device.rpc import RpcDevice, parse_address
from tvm_eff.errors import DeviceError
from tvm_eff.targets import Target

FLOAT16_EXTENSION = "cl_khr_fp16"


class Progress(Protocol):
    """Records events of building the emulator."""

    def advanced(self, what: str, done: int, count: int) -> None:
        """`done` of `count` parts of something long are done."""


@dataclass(frozen=True)
class SelectedDevice:
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


def select(
    target: Target, rpc: str | None, key: str, progress: Progress, dtype: str = "float32"
) -> SelectedDevice:
    """Return the device that a target's code is measured on.

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
        Records events of building the emulator.
    dtype
        What is computed in.

    Raises
    ------
    DeviceError
        The address cannot be used, or the target cannot be emulated.
    """
    if rpc is not None:
        device = remote(rpc, key, opencl=target.gpu is not None)
        return SelectedDevice(device, target, f"connecting to {rpc}")
    if target.gpu is not None:
        extensions = (FLOAT16_EXTENSION,) if dtype == "float16" else ()
        here = target if target.is_host else targets.launched_from_here(target)
        opening = "starting a server with OpenCL on this machine"
        return SelectedDevice(local_opencl(extensions), here, opening)
    if target.is_host:
        device = local(target.hardware.cores)
        return SelectedDevice(device, target, "starting a server on this machine")
    if target.emulator is None:
        raise DeviceError(
            f"{target.path} names no [emulator], so {target.name} cannot be emulated here; "
            "start a server on the board (tvm-eff board-server makes it) and give --rpc HOST:PORT"
        )
    arch, cpu = target.emulator.arch, target.emulator.cpu
    device = emulated(
        arch, cpu, lambda done, count: progress.advanced("building its server", done, count)
    )
    return SelectedDevice(device, target, f"starting the emulated {cpu}")


def remote(rpc: str, key: str, *, opencl: bool, timeout: float = 120.0) -> Device:
    """Return the board behind ``HOST:PORT``; the timeout is one call's, in seconds."""
    host, port = parse_address(rpc)
    return RpcDevice(host, port, key, timeout, "opencl" if opencl else "cpu")


def local(threads: int | None, timeout: float = 60.0) -> Device:
    """Return this machine, which runs functions with so many threads, or on all cores."""
    return LocalDevice(threads, timeout)


def local_opencl(extensions: Sequence[str], timeout: float = 120.0) -> Device:
    """Return this machine's OpenCL device with all of these extensions."""
    return LocalOpenCLDevice(extensions, timeout=timeout)


def emulated(
    arch: str,
    cpu: str,
    on_progress: Callable[[int, int], None] | None = None,
    timeout: float = 600.0,
) -> Device:
    """Return the emulated board with this processor, as qemu calls it."""
    return EmulatedDevice(arch, cpu, timeout, on_progress)

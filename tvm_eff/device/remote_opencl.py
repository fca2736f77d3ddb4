"""The OpenCL device on the other side of a session, asked for through the plug-in there."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import rpc

from tvm_eff.device import opencl
from tvm_eff.device.opencl import OpenCLDevice
from tvm_eff.errors import DeviceError


@dataclass(frozen=True)
class Answer:
    """What the other side says.

    Attributes
    ----------
    device
        Its first OpenCL device; None if it has no plug-in of this version.
    trouble
        Why the device cannot compile kernels; empty if it can.
    """

    device: OpenCLDevice | None
    trouble: str


def ask(session: rpc.RPCSession) -> Answer:
    """Ask for the device; raises what TVM raises where there is no driver."""
    try:
        attribute = session.get_function("tvm_eff.opencl.attribute")
        trouble = session.get_function("tvm_eff.opencl.trouble")
    except AttributeError:  # as TVM says that the other side has no such function
        return Answer(None, "")
    return Answer(opencl.describe(lambda name: attribute(0, name)), str(trouble(0)))


def usable(answer: Answer) -> OpenCLDevice:
    """Return the device.

    Raises
    ------
    DeviceError
        The plug-in is not there, or its driver does not work.
    """
    if answer.device is None:
        raise DeviceError(
            "the server has no OpenCL plug-in of this version; start it with --load-library "
            "libtvm_runtime_opencl.so (docs/opencl.md says how that is made)"
        )
    if answer.trouble:
        raise DeviceError(f"{answer.device.driver} does not work: {answer.trouble}")
    return answer.device

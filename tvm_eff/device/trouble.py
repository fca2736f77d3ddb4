"""What a call's failure says: of the code that ran, or of the device it was to run on."""

from __future__ import annotations

import re

from tvm_eff.device.connection import SessionLostError
from tvm_eff.errors import (
    Error,
    ExecutionError,
    InterruptedExecutionError,
    UnsuitableDeviceError,
)

_UNSUITABLE = {
    r"wrong ELF class|Exec format error|cannot open shared object file": (
        "it runs programs of another architecture than the target's: give the --target of the "
        "system that is installed there, such as rasp3-armv7 for a 32-bit one"
    ),
    r"version `GLIBC_[0-9.]+' not found": (
        "its C library is older than the target's: lower 'glibc' in the target's file"
    ),
    r"No space left on device|Disk quota exceeded": (
        "it has no room for a library: make room in its temporary folder"
    ),
    r"failed to map segment": (
        "it does not let libraries run from its temporary folder: set TMPDIR there to one that "
        "is not mounted noexec"
    ),
}
# What the code itself may be the cause of as well: a trap, a file that is no library.
_DOUBTFUL = {
    r"signal 4 \(": (
        "if all code ends so, the processor does not know an instruction of the target's: give "
        "the --target of that processor"
    ),
    r"file too short|invalid ELF header": (
        "if all libraries end so, there is no room in the temporary folder there"
    ),
}


def failure(where: str, what: str, lost: SessionLostError) -> Error:
    """Return what to raise for a call that was lost.

    Parameters
    ----------
    where
        The device, in words.
    what
        What was called.
    lost
        What is known of the failure.

    Returns
    -------
    Error
        An UnsuitableDeviceError if no code that is made for the target can run there, as far as
        the device says; otherwise an ExecutionError.
    """
    for pattern, advice in _UNSUITABLE.items():
        if re.search(pattern, str(lost)):
            return UnsuitableDeviceError(f"{where} cannot run {what}: {lost}; {advice}")
    for pattern, advice in _DOUBTFUL.items():
        if re.search(pattern, str(lost)):
            return InterruptedExecutionError(f"{what}: {lost}; {advice}")
    ended = lost.hung or "it crashed" in str(lost) or "the session's process" in str(lost)
    kind = InterruptedExecutionError if ended else ExecutionError
    return kind(f"{what}: {lost}")

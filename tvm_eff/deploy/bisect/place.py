"""Where a bundle's library is bisected, and how a script opens the same place."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_eff.deploy import machine
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.device import Device, selection
from tvm_eff.errors import BundleError, UsageError

_TIMEOUT_S = 180.0
HOST, EMULATED = "host", "emulated"


@dataclass(frozen=True)
class Place:
    """A device, not yet open.

    Attributes
    ----------
    device
        The device.
    expression
        What makes it in Python, where ``selection`` is :mod:`tvm_eff.device.selection`.
    takes_key
        Whether that reads the server's key from the command line.
    """

    device: Device
    expression: str
    takes_key: bool = False


def choose(bundle: Bundle, on: str | None, key: str) -> Place:
    """Return where to run a bundle's library.

    Parameters
    ----------
    bundle
        The bundle.
    on
        ``host``, ``emulated``, or ``HOST:PORT``; by default this machine if the library runs on
        it, or else the emulated board.
    key
        The key of an RPC server.

    Raises
    ------
    BundleError
        The library does not run there.
    UsageError
        There is no such place.
    """
    made_for = bundle.manifest.target
    if on is not None and on not in (HOST, EMULATED):
        return _board(on, key)
    if key:
        raise UsageError("--key is the key of an RPC server; give --on HOST:PORT as well")
    reason = machine.incompatibility(made_for)
    if on == HOST or (on is None and reason is None):
        if reason is None:
            return Place(selection.local(None, _TIMEOUT_S), "selection.local(None)")
        raise BundleError(
            f"{bundle.folder} was made for {made_for.name} ({made_for.arch}); {reason}; "
            f"leave --on {HOST} out, or give --on HOST:PORT of a machine that can run it"
        )
    if made_for.emulator is None:
        raise UsageError(
            f"{made_for.name} has no emulated board; give --on HOST:PORT of a real one"
            if reason
            else f"{made_for.name} has no emulated board; leave --on {EMULATED} out"
        )
    arch, cpu = made_for.emulator.arch, made_for.emulator.cpu
    device = selection.emulated(arch, cpu, timeout=_TIMEOUT_S)
    return Place(device, f"selection.emulated({arch!r}, {cpu!r})")


def _board(address: str, key: str) -> Place:
    if ":" not in address:
        raise UsageError(
            f"'{address}' is no device; give {HOST}, {EMULATED}, or HOST:PORT of a board"
        )
    device = selection.remote(address, key, opencl=False, timeout=_TIMEOUT_S)
    given = 'sys.argv[1] if sys.argv[1:] else ""' if key else '""'
    expression = f"selection.remote({address!r}, {given}, opencl=False)"
    return Place(device, expression, takes_key=bool(key))

"""A user's board, where an RPC server of TVM's runs."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import replace

from tvm import rpc
from typing_extensions import override

from tvm_eff.device.connection import Connection, parse_address, read_key, start_command
from tvm_eff.device.identity import MachineIdentity, ReadText, identity_of
from tvm_eff.device.rpc_session import RpcSessionDevice, wait_for
from tvm_eff.errors import DeviceError
from tvm_eff.targets import Target
from tvm_eff.targets.architectures import of_elf

_TO_ROOT = "../" * 16

__all__ = ["RpcDevice", "parse_address", "read_key"]


class RpcDevice(RpcSessionDevice):
    """Runs code on a real RPC server and measures seconds.

    Parameters
    ----------
    host, port
        Where the server listens.
    key
        The key the server was started with.
    timeout
        How long one call may take, upload and measurement included, in seconds.
    device_type
        What functions run on there, as TVM calls it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: str = "",
        timeout: float = 120.0,
        device_type: str = "cpu",
    ) -> None:
        super().__init__(timeout, device_type)
        self._host, self._port, self._key = host, port, key
        self._opened_at = 0.0
        self._identity: MachineIdentity | None = None
        self._architecture: str | None = None

    @property
    def identity(self) -> MachineIdentity:
        """The board, by its own files, whatever its address.

        Raises
        ------
        DeviceError, ExecutionError
            It does not answer.
        """
        if self._identity is None:
            found = self._attempt("reading the board's description", _identity)
            gpu = self.opencl_device
            words = "" if gpu is None else f"{gpu.name}, {gpu.driver_version}"
            self._identity = replace(found, gpu=words)
        return self._identity

    @property
    @override
    def architecture(self) -> str | None:
        if self._architecture is None:
            self._architecture = self._attempt("reading the server's program", _architecture)
        return self._architecture

    @property
    @override
    def where(self) -> str:
        return f"rpc {self._host}:{self._port}"

    @override
    def known_peak(self, target: Target) -> float | None:
        return None if target.gpu is None else target.gpu.peak_fma_per_second

    @override
    def close(self) -> None:
        super().close()
        self._identity = self._architecture = None

    def _connect(self) -> Connection:
        self._opened_at = time.monotonic()
        # The server, too, must end what hangs: it serves one session at a time.
        # A session therefore has an end, and is replaced in good time before it.
        return Connection(
            self._host,
            self._port,
            self._key,
            timeout=min(self._timeout, 10.0),
            lifetime=2 * self._timeout,
        )

    def _reconnect(self, *, hung: bool) -> Connection:
        end_of_session = self._opened_at + 2 * self._timeout - time.monotonic()
        try:
            return wait_for(self._connect, max(0.0, end_of_session) + 5.0 if hung else 0.0)
        except DeviceError as error:
            raise DeviceError(
                f"{error}\nTVM's Python server stops serving when a session crashes; restart it "
                f"on the board, or run the one that goes on: "
                f"{start_command(self._host, self._port)}"
            ) from error

    def _renew(self) -> None:
        if self._connection is None or time.monotonic() < self._opened_at + self._timeout:
            return
        self.forget()
        self._connection.close()
        self._connection = None
        self._connection = wait_for(self._connect, 5.0)


def _reader(session: rpc.RPCSession) -> ReadText:
    """Return what reads the board's files, which the server's own folder is a way to."""

    def read(path: str) -> str:
        # A file that is not there is an error of the server's, after which it goes on.
        with suppress(Exception):
            return bytes(session.download(_TO_ROOT + path.lstrip("/"))).decode(errors="replace")
        return ""

    return read


def _identity(session: rpc.RPCSession) -> MachineIdentity:
    read = _reader(session)
    release = re.search(r'^PRETTY_NAME="?(.*?)"?$', read("/etc/os-release"), re.MULTILINE)
    return identity_of(read, release.group(1) if release else "unknown")


def _architecture(session: rpc.RPCSession) -> str | None:
    """Return the architecture of the server itself: a kernel of 64 bits runs both."""
    with suppress(Exception):
        return of_elf(bytes(session.download(f"{_TO_ROOT}proc/self/exe")))
    return None

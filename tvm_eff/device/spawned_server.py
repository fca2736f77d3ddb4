"""A device whose server is a process of our own on this machine."""

from __future__ import annotations

from abc import abstractmethod

from typing_extensions import override

from tvm_eff.device.connection import Connection
from tvm_eff.device.rpc_session import RpcSessionDevice
from tvm_eff.device.server_process import ServerProcess
from tvm_eff.errors import DeviceError

_CONNECT_SECONDS = 30.0


class SpawnedServerDevice(RpcSessionDevice):
    """Starts its server when opened, again when it died or hangs, and ends it when closed."""

    def __init__(self, timeout: float, device_type: str = "cpu") -> None:
        super().__init__(timeout, device_type)
        self._server: ServerProcess | None = None

    @abstractmethod
    def _start(self) -> ServerProcess:
        """Start the server."""

    @property
    def pid(self) -> int | None:
        """The process id, and process group, of the running server."""
        return self._server.pid if self._server is not None else None

    @override
    def close(self) -> None:
        super().close()
        self._stop()

    def _connect(self) -> Connection:
        if self._server is None or not self._server.alive():
            self._stop()
            self._server = self._start()
        server = self._server
        return Connection("127.0.0.1", server.port, server.key, timeout=_CONNECT_SECONDS)

    def _reconnect(self, *, hung: bool) -> Connection:
        if hung:
            self._stop()
        try:
            return self._connect()
        except DeviceError:
            # The server may have been about to die when it was asked.
            self._stop()
            return self._connect()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

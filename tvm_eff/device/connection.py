"""One TVM RPC session over one socket, with an end to every wait.

TVM's client waits for ever, both while it connects and while a call runs. A
timer here shuts the session's socket down when a wait has lasted too long,
which makes the waiting call raise.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tvm
from tvm import rpc

from tvm_eff import paths
from tvm_eff.errors import DeviceError, UsageError

_LONGEST_KEY = 4096
_connecting = threading.Lock()
_file_numbers = itertools.count()


class SessionLostError(Exception):
    """A call over the session failed; the session is not to be used any more."""

    def __init__(self, reason: str, *, hung: bool) -> None:
        super().__init__(reason)
        self.hung = hung


def parse_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``.

    Raises
    ------
    UsageError
        The text is not an address.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host:
        raise UsageError(f"'{text}' is not an address; write HOST:PORT, such as 192.168.1.5:9090")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"'{port}' in '{text}' is not a port; it is a number from 1 to 65535")
    return host, int(port)


def start_command(host: str, port: int) -> str:
    """Return what starts a server on a board that is reached as `host`, in words."""
    loopback = host == "localhost" or host == "::1" or host.startswith("127.")
    listens, tunnel = ("127.0.0.1", ", behind ssh -L") if loopback else ("0.0.0.0", "")
    return (
        f"./tvm_eff_server --host {listens} --port {port}{tunnel} "
        "(made here by: tvm-eff board-server)"
    )


def read_key(path: Path) -> str:
    """Return the key in a file: its text without white space at the ends.

    Raises
    ------
    UsageError
        The file cannot be read, or holds none.
    """
    content = paths.read_regular(path, _LONGEST_KEY, UsageError, "give the path of a key file")
    key = content.decode(errors="replace").strip()
    if key and not any(each.isspace() for each in key):
        return key
    raise UsageError(
        f"the key file {path} must hold one word; make one with: "
        f"openssl rand -hex 32 > {path.name}, and give the server the same file"
    )


def probe(host: str, port: int, timeout: float) -> str:
    """Return the numeric address of `host` if something listens on `port` there.

    Raises
    ------
    DeviceError
        The name is unknown, or nothing accepts the connection.
    """
    try:
        address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise DeviceError(
            f"the host '{host}' is not known; check the name or use its IP"
        ) from error
    try:
        socket.create_connection((address, port), timeout=timeout).close()
    except ConnectionRefusedError as error:
        raise DeviceError(
            f"nothing listens on {host}:{port}; start the board's server there: "
            f"{start_command(host, port)}"
        ) from error
    except OSError as error:
        raise DeviceError(
            f"{host}:{port} cannot be reached ({error.strerror or 'timed out'}); "
            "check the address, the network and the board's firewall"
        ) from error
    return address


class Connection:
    """An open session. All its waits end after a given time.

    Parameters
    ----------
    host, port
        Where the server listens.
    key
        The server's key.
    timeout
        How long to wait for the server to accept, in seconds.
    lifetime
        After this time the server may end the session, if given.
    """

    def __init__(
        self, host: str, port: int, key: str = "", *, timeout: float, lifetime: float = 0
    ) -> None:
        self._where = f"{host}:{port}"
        self._address = (probe(host, port, timeout), port)
        self._socket: socket.socket | None = None
        self._timed_out = False
        with _connecting:
            self._open(key, timeout, lifetime)

    def _open(self, key: str, timeout: float, lifetime: float) -> None:
        known = set()
        for other in _sockets_to(self._address):
            known.add(other.getsockname())
            other.close()
        timer = threading.Timer(timeout, self._cut_new, [known])
        timer.start()
        try:
            self._session = rpc.connect(*self._address, key, session_timeout=lifetime)
        except Exception as error:
            raise DeviceError(self._explain(str(error), key, timeout)) from error
        finally:
            timer.cancel()
        for found in _new_sockets(self._address, known):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket = found

    def _cut_new(self, known: set[Any]) -> None:
        self._timed_out = True
        for found in _new_sockets(self._address, known):
            _shut(found)

    def _explain(self, reason: str, key: str, timeout: float) -> str:
        if "cannot find server that matches key" in reason:
            given = "another key than the one given" if key else "a key, and none was given"
            return (
                f"the server at {self._where} has {given}; give the one it was started with: "
                "--key NAME or --key-file FILE"
            )
        if self._timed_out:
            return (
                f"{self._where} accepts connections but did not open a session within "
                f"{timeout:g} s; either another client uses the board, or no TVM RPC server "
                "listens there: wait for the other client, or restart the server"
            )
        if "is not TVM RPC server" in reason:
            return f"what listens on {self._where} is not a TVM RPC server; check the port"
        return (
            f"the server at {self._where} closed the connection; it is not a TVM RPC server "
            f"of version {tvm.__version__}, or it is failing: look at what it prints"
        )

    @contextmanager
    def limit(self, seconds: float) -> Iterator[rpc.RPCSession]:
        """Lend the session for work that is cut off after some seconds.

        Raises
        ------
        SessionLostError
            The work raised, or it was cut off.
        """
        self._timed_out = False
        timer = threading.Timer(seconds, self._cut)
        timer.start()
        try:
            yield self._session
        except Exception as error:
            timer.cancel()
            if self._timed_out:
                raise SessionLostError(f"no answer within {seconds:g} s", hung=True) from error
            raise SessionLostError(_reason(error), hung=False) from error
        finally:
            timer.cancel()

    def _cut(self) -> None:
        self._timed_out = True
        if self._socket is not None:
            _shut(self._socket, close=False)

    @contextmanager
    def uploaded(self, library: bytes) -> Iterator[Any]:
        """Yield a shared library loaded on the other side; remove its file there at once."""
        # The loader knows a library by its path, so no two may share a name.
        name = f"{os.getpid()}_{next(_file_numbers)}.so"
        self._session.upload(bytearray(library), target=name)
        try:
            module = self._session.load_module(name)
        except Exception:
            with suppress(Exception):
                self._session.remove(name)
            raise
        self._session.remove(name)
        yield module

    def close(self) -> None:
        """End the session; no error if the other side is gone."""
        with suppress(Exception):
            self._session.get_function("CloseRPCConnection")()
        if self._socket is not None:
            _shut(self._socket)
            self._socket = None


def _sockets_to(address: tuple[str, int]) -> list[socket.socket]:
    # TVM does not hand out its socket. The operating system does: a duplicate
    # of the descriptor acts on the same connection.
    folder = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    found = []
    for descriptor in list(folder.iterdir()) if folder.is_dir() else []:
        with suppress(OSError):
            duplicate = os.dup(int(descriptor.name))
            try:
                candidate = socket.socket(fileno=duplicate)
            except OSError:
                os.close(duplicate)
                continue
            if _peer(candidate) == address:
                found.append(candidate)
            else:
                candidate.close()
    return found


def _peer(connection: socket.socket) -> tuple[str, int] | None:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        host, port = connection.getpeername()[:2]
    except OSError:
        return None
    return host, port


def _new_sockets(address: tuple[str, int], known: set[Any]) -> list[socket.socket]:
    new = []
    for found in _sockets_to(address):
        if found.getsockname() in known:
            found.close()
        else:
            new.append(found)
    return new


def _shut(connection: socket.socket, *, close: bool = True) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    if close:
        connection.close()


def _reason(error: Exception) -> str:
    text = str(error)
    if "Channel closes" in text or "code=kShutdown" in text or "SockChannel" in text:
        return "it crashed: the process that ran it ended"
    lines = [line.strip() for line in text.splitlines()]
    told = " ".join(line for line in lines if line and "Error caught from RPC call" not in line)
    return told[:800] or type(error).__name__

"""Another user of this machine who tries to have code run by our servers."""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534
MAGIC = struct.pack("<i", 0xFF271)
_COUNTS = struct.Struct("<qqq")


def greeting(key: bytes, length: int | None = None) -> bytes:
    """Return what TVM's client says first."""
    return MAGIC + struct.pack("<i", len(key) if length is None else length) + key


TRIES = (
    greeting(b"client:"),
    greeting(b"client: -timeout=100"),
    greeting(b"client:" + b"0" * 64),
    greeting(b"client:", length=1 << 30),
    greeting(b"client:", length=-1),
    b"GET / HTTP/1.1\r\n\r\n",
    # Whoever stays silent, or stops half way, must not keep others waiting.
    b"",
    MAGIC,
    greeting(b"", length=71),
)


@dataclass(frozen=True)
class Stranger:
    """What the other user has tried so far."""

    _shared: mmap.mmap

    @property
    def tries(self) -> int:
        return self._counts()[0]

    @property
    def let_in(self) -> int:
        return self._counts()[1]

    @property
    def seen(self) -> int:
        return self._counts()[2]

    def _counts(self) -> tuple[int, int, int]:
        return _COUNTS.unpack(self._shared[:])


@contextmanager
def stranger() -> Iterator[Stranger]:
    """Fork a process that tries every port it finds, as another user, until the block ends."""
    shared = mmap.mmap(-1, _COUNTS.size)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            _try_all(parent, shared)
        os._exit(0)
    try:
        yield Stranger(shared)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _try_all(parent: int, shared: mmap.mmap) -> None:
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    before = _listening()
    held: list[socket.socket] = []
    ports: set[int] = set()
    tries = let_in = 0
    while os.getppid() == parent:
        new = _listening() - before
        ports |= new
        time.sleep(0.002)
        for port in new:
            for text in TRIES:
                tries += _try(port, text, held)
        let_in += _let_in(held)
        shared[:] = _COUNTS.pack(tries, let_in, len(ports))


def _try(port: int, text: bytes, held: list[socket.socket]) -> bool:
    connection = socket.socket()
    connection.settimeout(0.05)
    try:
        connection.connect(("127.0.0.1", port))
        connection.sendall(text)
    except OSError:
        connection.close()
        return False
    held.append(connection)
    return True


def _let_in(held: list[socket.socket]) -> int:
    """How many are answered as a client is; of the others, the last are kept open."""
    found = 0
    for each in select.select(held, [], [], 0)[0]:
        with suppress(OSError):
            found += each.recv(4) == MAGIC
        held.remove(each)
        each.close()
    while len(held) > 60:
        held.pop(0).close()
    return found


def _listening() -> set[int]:
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, port = local.split(":")
        if state == "0A" and address == "0100007F":
            found.add(int(port, 16))
    return found

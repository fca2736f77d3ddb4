"""TVM's RPC server for this machine, made to survive what it runs.

Run as a script, not imported. TVM's own listening loop ends when a session's
process crashes; here the next session is served instead. It ends with all its
children, and its temporary folder goes, when standard input ends.

Whoever has a session runs code here, so that only who knows the key gets one, and nobody who
does not can keep the others waiting.
"""

from __future__ import annotations

import argparse
import hmac
import os
import re
import selectors
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# tvm.rpc.base has these as RPC_MAGIC and RPC_CODE_MISMATCH.
_MAGIC = 0xFF271
_KEY_MISMATCH = _MAGIC + 2
_OPTIONS_LENGTH = 64
_GREETING_SECONDS = 10.0
_MOST_GREETINGS = 64
_BACKLOG = 128


@dataclass
class _Greeting:
    """What a client has said so far: TVM's magic number, the length of its key, and the key."""

    until: float
    received: bytes = b""

    @property
    def length(self) -> int | None:
        """The key's length, if it is known."""
        return struct.unpack("<i", self.received[4:8])[0] if len(self.received) >= 8 else None

    @property
    def missing(self) -> int:
        """How many bytes to read next; 0 if it is whole."""
        return 8 + (self.length or 0) - len(self.received)


class _Greetings:
    """Lets in clients that know the key; all others are cut off, however many and slow."""

    def __init__(self, listener: socket.socket, key: str) -> None:
        self._listener = listener
        self._key = f"client:{key}".encode()
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def next_client(self) -> tuple[socket.socket, dict[str, float]]:
        """Wait for a client with the key; return its connection, and its session's options."""
        while True:
            for ready, _ in self._selector.select(_GREETING_SECONDS):
                if ready.fileobj is self._listener:
                    self._accept()
                elif (words := self._read(ready)) is not None:
                    client = ready.fileobj
                    assert isinstance(client, socket.socket)
                    self._selector.unregister(client)
                    client.setblocking(True)
                    own = b"server:"
                    with suppress(OSError):
                        client.sendall(struct.pack("<ii", _MAGIC, len(own)) + own)
                        return client, _options(words)
            self._cut_off_slow()

    def _accept(self) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            greeting = _Greeting(time.monotonic() + _GREETING_SECONDS)
            self._selector.register(client, selectors.EVENT_READ, greeting)

    def _read(self, ready: selectors.SelectorKey) -> list[str] | None:
        """Read more of a greeting; return its words if it is whole and has the key."""
        client, greeting = ready.fileobj, ready.data
        assert isinstance(client, socket.socket)
        assert isinstance(greeting, _Greeting)
        try:
            received = client.recv(greeting.missing)
        except BlockingIOError:
            return None
        except OSError:
            received = b""
        greeting.received += received
        if not received or not self._may_be_ours(greeting):
            self._cut_off(client)
            return None
        if greeting.missing:
            return None
        words = greeting.received[8:].split(b" ")
        if hmac.compare_digest(words[0], self._key):
            return [word.decode(errors="replace") for word in words[1:]]
        with suppress(OSError):
            client.send(struct.pack("<i", _KEY_MISMATCH))
        self._cut_off(client)
        return None

    def _may_be_ours(self, greeting: _Greeting) -> bool:
        magic = struct.pack("<i", _MAGIC)
        if not greeting.received.startswith(magic[: len(greeting.received)]):
            return False
        length = greeting.length
        return length is None or 0 < length <= len(self._key) + _OPTIONS_LENGTH

    def _cut_off(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        client.close()

    def _cut_off_slow(self) -> None:
        greeted = [each for each in self._selector.get_map().values() if each.data is not None]
        greeted.sort(key=lambda each: each.data.until, reverse=True)
        now = time.monotonic()
        for number, each in enumerate(greeted):
            if each.data.until < now or number >= _MOST_GREETINGS:
                assert isinstance(each.fileobj, socket.socket)
                self._cut_off(each.fileobj)


def _options(words: list[str]) -> dict[str, float]:
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        if name == "-timeout":
            with suppress(ValueError):
                found["timeout"] = float(value)
    return found


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    shutil.rmtree(Path(os.environ["TMPDIR"]).parent, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _limit_memory() -> None:
    """Refuse what runs here more memory than there is, before the machine stands still."""
    if sys.platform != "linux":
        return
    import resource

    there_is = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or there_is < most:
        resource.setrlimit(resource.RLIMIT_AS, (there_is, most))


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(_BACKLOG)
    return listener


def _write_port(path: Path, port: int) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_text(f"{port}\n")
    unfinished.rename(path)


def _serve(listener: socket.socket, key: str, libraries: str | None) -> None:
    from tvm.rpc import server

    server.logger.setLevel("ERROR")
    home = Path.cwd()
    greetings = _Greetings(listener, key)
    while True:
        client, options = greetings.next_client()
        with client, suppress(OSError):
            try:
                server._serving(client, None, options, libraries)
            except RuntimeError as error:  # of a session's process that ended with an error
                server._ffi_api.ReturnException(client.fileno(), _reason(str(error)))
        os.chdir(home)


def _reason(error: str) -> str:
    """Say how a session's process ended, whose exit code is the negative number of a signal."""
    code = re.search(r"error code (-?\d+)", error)
    if code is None or int(code.group(1)) >= 0:
        return f"it crashed: the process that ran it ended ({error})"
    number = -int(code.group(1))
    name = signal.strsignal(number) or "unknown"
    return f"it crashed: the process that ran it ended with signal {number} ({name})"


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--load-library", help="what sessions load first; several with colons")
    arguments = parser.parse_args()
    key = arguments.key_file.read_text().strip()
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    # tvm_ffi imports torch where it is installed, which takes a second or more.
    sys.modules["torch"] = None  # type: ignore[assignment]
    import tvm.rpc.server  # noqa: F401

    # PoCL keeps what it compiles for ever, and the plug-in has a cache of its own.
    os.environ.setdefault("POCL_CACHE_DIR", os.environ["TMPDIR"])
    listener = _listen()
    port = listener.getsockname()[1]
    _limit_memory()
    _write_port(arguments.port_file, port)
    _serve(listener, key, arguments.load_library)


if __name__ == "__main__":
    # This folder's modules must not be mistaken for someone's top-level ones.
    sys.path.pop(0)
    main()

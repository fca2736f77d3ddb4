"""TVM's RPC server for this machine, made to survive what it runs.

Run as a script, not imported. TVM's own listening loop ends when a session's
process crashes; here the next session is served instead. It ends with all its
children, and its temporary folder goes, when standard input ends.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path


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
    listener.listen(4)
    return listener


def _write_port(path: Path, port: int) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_text(f"{port}\n")
    unfinished.rename(path)


def _serve(listener: socket.socket, port: int, libraries: str | None) -> None:
    from tvm.rpc import server

    server.logger.setLevel("ERROR")
    home = Path.cwd()
    while True:
        # It raises when a session's process ended with an error.
        with suppress(RuntimeError):
            server._listen_loop(listener, port, "", None, libraries, None)
        os.chdir(home)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--load-library", help="what sessions load first; several with colons")
    arguments = parser.parse_args()
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
    _serve(listener, port, arguments.load_library)


if __name__ == "__main__":
    # This folder's modules must not be mistaken for someone's top-level ones.
    sys.path.pop(0)
    main()

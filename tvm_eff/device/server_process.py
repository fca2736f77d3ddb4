"""A server process of our own, which cannot outlive us and leaves nothing behind."""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tvm_eff.errors import DeviceError, SetupError
from tvm_eff.scratch import ScratchFolder

_KIND = "device-"
_running: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


@dataclass(frozen=True)
class ServerFolder:
    """The folder of a server, which nobody else may enter.

    Attributes
    ----------
    path
        Where it lies.
    """

    path: Path

    @property
    def port_file(self) -> Path:
        """Where the server writes its port once it listens."""
        return self.path / "port"

    @property
    def key_file(self) -> Path:
        """What a client must say to be let in: command lines and logs can be read by others."""
        return self.path / "key"

    @property
    def options(self) -> list[str]:
        """What every server's command line has."""
        return ["--port-file", str(self.port_file), "--key-file", str(self.key_file)]


class ServerProcess:
    """A server that listens on a free port of 127.0.0.1, for whoever has its key.

    The key is a new random one. The server writes its port to a file, and ends with all its
    children when its standard input ends: also if this process is killed. It has a process
    group and a temporary folder of its own, both gone after :meth:`stop`.

    Parameters
    ----------
    command
        Makes the command line, which includes :attr:`ServerFolder.options`.
    environment
        All its variables, but for the temporary folder.
    timeout
        How long the start may take, in seconds.

    Raises
    ------
    DeviceError
        The server does not start.
    """

    def __init__(
        self,
        command: Callable[[ServerFolder], Sequence[str | Path]],
        environment: Mapping[str, str],
        timeout: float = 60.0,
    ) -> None:
        if sys.platform == "win32":
            raise SetupError(
                "running code on this machine needs Linux or macOS: compiling works here, and a "
                "real board can be measured with --rpc HOST:PORT"
            )
        self._scratch = ScratchFolder(_KIND)
        self.folder = self._scratch.path
        self.key = secrets.token_hex(32)
        files = ServerFolder(self.folder)
        try:
            files.key_file.write_text(self.key)
            self._process = self._spawn(command(files), environment)
        except BaseException:
            self._remove_folder()
            raise
        _running.add(self)
        try:
            self.port = self._wait_for_port(files.port_file, timeout)
        except BaseException:
            self.stop()
            raise

    def _spawn(
        self, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        work = self.folder / "work"
        work.mkdir()
        try:
            with (self.folder / "log").open("wb") as log:
                return subprocess.Popen(
                    [str(part) for part in command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=work,
                    env={**environment, "TMPDIR": str(work)},
                    start_new_session=True,
                )
        except OSError as error:
            raise DeviceError(f"cannot start the device's server: {error}") from error

    @property
    def pid(self) -> int:
        """The process id, which is the process group's too."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Kill the server with its children and remove its folder."""
        self.forget()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._remove_folder()

    def forget(self) -> None:
        """Close this process' end of the server's standard input."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _remove_folder(self) -> None:
        self._scratch.remove()

    def _wait_for_port(self, port_file: Path, timeout: float) -> int:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if port_file.exists() and (text := port_file.read_text().strip()):
                return int(text)
            if not self.alive():
                raise DeviceError(
                    f"the device's server ended at once (exit code {self._process.returncode}):\n"
                    + self._printed()
                )
            time.sleep(0.005)
        raise DeviceError(
            f"the device's server did not start within {timeout:g} s:\n{self._printed()}"
        )

    def _printed(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:].strip()


def _forget_in_child() -> None:
    # A forked worker would hold the server's standard input open after our death.
    for process in list(_running):
        process.forget()
    _running.clear()


@atexit.register
def _stop_all() -> None:
    for process in list(_running):
        process.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)

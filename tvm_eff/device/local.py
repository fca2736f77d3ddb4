"""The machine this process runs on, as a device."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from tvm_eff.device.identity import MachineIdentity, local_identity
from tvm_eff.device.server_process import ServerProcess
from tvm_eff.device.spawned_server import SpawnedServerDevice
from tvm_eff.targets.detect import usable_cores

_SERVER = Path(__file__).with_name("server.py")


class LocalDevice(SpawnedServerDevice):
    """Runs code in a process of its own on this machine and measures seconds.

    Parameters
    ----------
    threads
        How many threads a function may use; all cores if not given.
    timeout
        How long one call may take, upload and measurement included, in seconds.
    libraries
        What the process loads first, such as the plug-in of :mod:`tvm_eff.device.opencl`.
    variables
        What its environment has besides this process' own, such as OpenCL's driver.
    device_type
        What functions run on, as TVM calls it.
    """

    def __init__(
        self,
        threads: int | None = None,
        timeout: float = 60.0,
        *,
        libraries: Sequence[Path] = (),
        variables: Mapping[str, str] | None = None,
        device_type: str = "cpu",
    ) -> None:
        super().__init__(timeout, device_type)
        self._threads = threads or usable_cores()
        self._libraries = tuple(libraries)
        self._variables = dict(variables or {})

    @property
    @override
    def identity(self) -> MachineIdentity:
        return local_identity(self._threads)

    @property
    @override
    def where(self) -> str:
        threads = f"{self._threads} thread{'' if self._threads == 1 else 's'}"
        return f"this machine ({processor()}, {threads})"

    @property
    @override
    def disturbed_by_builds(self) -> bool:
        return True

    def _start(self) -> ServerProcess:
        # TVM by itself would take half the processors of an x86.
        threads = {"TVM_NUM_THREADS": str(self._threads)}
        loading = ["--load-library", ":".join(map(str, self._libraries))] if self._libraries else []
        return ServerProcess(
            lambda files: [sys.executable, _SERVER, *files.options, *loading],
            {**os.environ, "TVM_USE_RUNTIME_LIB": "1", **threads, **self._variables},
        )


def processor() -> str:
    """Return the processor's name."""
    return local_identity(0).name

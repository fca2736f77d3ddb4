"""This machine as a device."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tvm

from tvm_eff.device.base import Fingerprint
from tvm_eff.device.server_process import ServerProcess
from tvm_eff.device.spawned_server import HostedDevice
from tvm_eff.targets.detect import usable_cores

_SERVER = Path(__file__).with_name("server.py")


class LocalDevice(HostedDevice):
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
    def fingerprint(self) -> Fingerprint:
        cpu, threads = processor(), self._threads
        return Fingerprint(
            kind="local",
            where=f"this machine ({cpu}, {threads} thread{'' if threads == 1 else 's'})",
            cpu=cpu,
            system=f"{platform.system()} {platform.machine()}",
            tvm=tvm.__version__,
        )

    def _start(self) -> ServerProcess:
        # TVM by itself would take half the processors of an x86.
        threads = {"TVM_NUM_THREADS": str(self._threads)}
        loading = ["--load-library", ":".join(map(str, self._libraries))] if self._libraries else []
        return ServerProcess(
            lambda folder, port: [sys.executable, _SERVER, "--port-file", port, *loading],
            {**os.environ, "TVM_USE_RUNTIME_LIB": "1", **threads, **self._variables},
        )


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()

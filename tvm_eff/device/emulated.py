"""An emulated board: real ARM code on this machine, its instructions counted."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

from tvm_eff.device import emulator_image
from tvm_eff.device.base import Measurement, MeasureOptions, Unit
from tvm_eff.device.counter import Counter
from tvm_eff.device.identity import MachineIdentity
from tvm_eff.device.rpc_session import Evaluate
from tvm_eff.device.server_process import ServerFolder, ServerProcess
from tvm_eff.device.spawned_server import SpawnedServerDevice
from tvm_eff.errors import UsageError, nearest
from tvm_eff.targets import Target
from tvm_eff.targets.architectures import ARCHITECTURES

_LONG = 20_000_000
_COUNTS = 3


class EmulatedDevice(SpawnedServerDevice):
    """Runs code in qemu's user-mode emulator and counts executed instructions.

    The count is the same on every machine and says nothing about time.

    Parameters
    ----------
    arch
        ``aarch64`` or ``arm`` (32-bit, hard float).
    cpu
        qemu's name of the processor.
    timeout
        How long one call may take, upload and measurement included, in seconds.
    on_progress
        Told the parts done and their count while the board's server is built, which
        happens once for a machine and takes two minutes.
    counter
        Makes the counter from the path of its file; another kind may count more.
    """

    def __init__(
        self,
        arch: str = "aarch64",
        cpu: str | None = None,
        timeout: float = 600.0,
        on_progress: Callable[[int, int], None] | None = None,
        counter: Callable[[Path], Counter] = Counter,
    ) -> None:
        if arch not in emulator_image.GUESTS:
            raise UsageError(f"'{arch}' cannot be emulated{nearest(arch, emulator_image.GUESTS)}")
        super().__init__(timeout)
        self._arch = arch
        self._cpu = cpu or ARCHITECTURES[arch].default_cpu
        self._counter: Counter | None = None
        self._on_progress = on_progress
        self._make_counter = counter

    @property
    @override
    def unit(self) -> Unit:
        return "instructions"

    @property
    @override
    def repeatable(self) -> bool:
        return True

    @property
    @override
    def identity(self) -> MachineIdentity:
        # Not the emulator's version: instructions are the same wherever they are counted.
        return MachineIdentity(system=f"qemu-user {self._arch}", name=self._cpu, threads=1)

    @property
    @override
    def where(self) -> str:
        version = emulator_image.qemu().versions["qemu-user"]
        return f"emulated {self._cpu} (qemu {version.split(':')[-1].split('+')[0]})"

    @override
    def known_peak(self, target: Target) -> float | None:
        return 1.0

    def _start(self) -> ServerProcess:
        # It is a program too, which python -m would find imported already.
        from tvm_eff.device import native_server

        emulator = emulator_image.emulator_command(self._arch)
        server = native_server.build(self._arch, on_progress=self._on_progress)

        def command(files: ServerFolder) -> list[str | Path]:
            self._counter = self._make_counter(files.path / "counter")
            return [
                *emulator,
                *("-cpu", self._cpu),
                *("-plugin", self._counter.plugin_option()),
                server,
                *("--host", "127.0.0.1", "--port", "0", "--exit-on-stdin-eof"),
                *files.options,
            ]

        # Nothing of this machine's environment: it reaches the guest, and qemu reads it too.
        return ServerProcess(command, {"TVM_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"})

    def _stop(self) -> None:
        super()._stop()
        if self._counter is not None:
            self._counter.close()
            self._counter = None

    def _measure(
        self, once: Callable[[], None], evaluate: Evaluate, options: MeasureOptions
    ) -> Measurement:
        # The server's own work for a call is some thousand instructions, and some hundred more
        # when a message arrives in parts. That shows in a short function only: count it again.
        counts: list[int] = []
        while sum(counts) < _LONG and len(counts) < _COUNTS:
            counts.append(self._count(once))
        return Measurement((float(statistics.median_low(counts)),), "instructions")

    def _count(self, once: Callable[[], None]) -> int:
        assert self._counter is not None
        before = self._counter.read_at_rest()
        once()
        return self._counter.read_at_rest() - before

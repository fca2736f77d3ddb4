"""The big cores of this machine as a device: on a big.LITTLE processor, the others rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import psutil
from typing_extensions import override

from tvm_eff.device import LocalDevice, MachineIdentity
from tvm_eff.device.server_process import ServerProcess
from tvm_eff.errors import SetupError


class PinnedDevice(LocalDevice):
    """Runs code on some cores of this machine, one thread on each.

    Parameters
    ----------
    cores
        The numbers of the cores, as Linux counts them.
    timeout
        How long one call may take, in seconds.
    """

    def __init__(self, cores: Sequence[int], timeout: float = 60.0) -> None:
        # Without TVM's own binding, which knows all cores.
        super().__init__(len(cores), timeout, variables={"TVM_BIND_THREADS": "0"})
        self._cores = sorted(cores)

    @property
    @override
    def identity(self) -> MachineIdentity:
        # Values of these cores must not be taken for values of others.
        here = super().identity
        return replace(here, name=f"{here.name}, cores {self._listed}")

    @property
    @override
    def where(self) -> str:
        return f"{super().where}, cores {self._listed}"

    @property
    def _listed(self) -> str:
        return ",".join(map(str, self._cores))

    @override
    def _start(self) -> ServerProcess:
        server = super()._start()
        try:
            # Threads and processes that it starts later inherit it.
            psutil.Process(server.pid).cpu_affinity(self._cores)
        except (ValueError, OSError) as error:
            server.stop()
            raise SetupError(
                f"this machine has no cores {self._listed} for this process ({error}); "
                "name some that `taskset -p $$` allows"
            ) from error
        return server

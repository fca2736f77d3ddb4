"""What the process that computes with OpenCL does first."""

from __future__ import annotations

import os

from tvm_eff.device import opencl


def load_drivers(drivers: tuple[str, ...], caches: dict[str, str]) -> None:
    """Load the plug-in with `drivers`, its caches where `caches` says.

    It is not in conftest.py: a process that is started afresh would find another one of that name.
    """
    os.environ.update(caches)
    opencl.load(*drivers)

"""Targets of this machine and of emulated boards, and servers to run code on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tvm_eff import targets
from tvm_eff.device import server
from tvm_eff.device.server_process import ServerProcess
from tvm_eff.targets import Target
from tvm_eff.testing import MakeDevice

HERE = targets.load("host")
BOARDS = {"aarch64": targets.load("rasp4"), "arm": targets.load("rasp3-armv7")}
"""A target of each architecture that is emulated."""


@dataclass(frozen=True)
class Place:
    """A kind of device, and the target of its code."""

    target: Target
    make: MakeDevice


@contextmanager
def surviving_server() -> Iterator[ServerProcess]:
    """Run an RPC server which, unlike TVM's own, goes on after a session has crashed."""
    script = Path(server.__file__)
    process = ServerProcess(lambda files: [sys.executable, script, *files.options], os.environ)
    try:
        yield process
    finally:
        process.stop()

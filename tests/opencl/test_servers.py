"""Libraries for OpenCL on servers: they bring the plug-in, clients need nothing."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from compiled import operands, product
from tvm import rpc

from tvm_eff import opencl
from tvm_eff.device import EmulatedDevice, LocalDevice, native_server
from tvm_eff.device.process import ServerProcess
from tvm_eff.opencl.loading import environment


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return product(tmp_path_factory.mktemp("compiled") / "product.so")


def _check(session: Any, library: Path) -> None:
    """Run a library over a session on the device there, and time it."""
    first, second = operands()
    device = session.cl(0)
    session.upload(str(library))
    module = session.load_module(library.name)
    tensors = [tvm.runtime.tensor(each, device) for each in (first, second, np.zeros_like(first))]
    module["main"](*tensors)
    assert (tensors[2].numpy() == 2 * (first @ second)).all()
    timed = module.time_evaluator("main", device, number=2, repeat=2)(*tensors)
    assert 0 < timed.mean < 10


@pytest.mark.parametrize("name", ["pocl", "intel"])
def test_our_server(
    drivers: tuple[str, ...], caches: dict[str, str], library: Path, name: str
) -> None:
    variables = {**environment(name), **caches}
    with LocalDevice(libraries=[opencl.build()], variables=variables) as device:
        device.health()
        with device._opened().limit(60) as session:
            _check(session, library)


@pytest.fixture
def tvm_server(drivers: tuple[str, ...], caches: dict[str, str], tmp_path: Path) -> Iterator[int]:
    """Run TVM's own server as on a board: with the plug-in named on its command line."""
    command = [sys.executable, "-m", "tvm.exec.rpc_server", "--host", "127.0.0.1"]
    command += ["--port", "9190", "--port-end", "9290", "--load-library", str(opencl.build())]
    variables = {**os.environ, **environment("pocl"), **caches, "TVM_USE_RUNTIME_LIB": "1"}
    with subprocess.Popen(
        command,
        env=variables,
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "bind to" in line:
                    break
            yield int(line.rstrip().rpartition(":")[2])
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_tvm_server(tvm_server: int, library: Path) -> None:
    _check(_connect(tvm_server), library)


def _connect(port: int) -> Any:
    # It says where it is bound before it listens there.
    end = time.monotonic() + 20
    while True:
        try:
            return rpc.connect("127.0.0.1", port)
        except tvm.error.InternalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@pytest.fixture
def native(drivers: tuple[str, ...], caches: dict[str, str], tmp_path: Path) -> Iterator[int]:
    """Run the server that has neither Python nor TVM beside it."""
    server = ServerProcess(
        lambda folder, port: [
            *(native_server.build(platform.machine()), "--port", "0", "--port-file", port),
            *("--exit-on-stdin-eof", "--work-dir", tmp_path),
        ],
        {**os.environ, **environment("pocl"), **caches},
    )
    yield server.port
    server.stop()


def test_server_without_python(native: int, library: Path) -> None:
    _check(rpc.connect("127.0.0.1", native), library)


def test_server_without_python_refuses(native: int) -> None:
    session = rpc.connect("127.0.0.1", native)
    with pytest.raises(Exception, match="out of memory: 1099511627776 bytes"):
        tvm.runtime.empty((1 << 40,), "int8", session.cl(0))
    ones = np.ones(4, "float32")
    assert (tvm.runtime.tensor(ones, session.cl(0)).numpy() == ones).all()


def test_board_without_a_driver(emulated_board: EmulatedDevice) -> None:
    emulated_board.health()
    with emulated_board._opened().limit(60) as session:
        assert not session.cl(0).exist
        with pytest.raises(Exception, match=r"(?s)no OpenCL driver was found.*libmali\.so\.1"):
            tvm.runtime.empty((1,), "float32", session.cl(0))
    emulated_board.health()

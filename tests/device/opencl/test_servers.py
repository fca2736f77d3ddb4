"""Libraries for OpenCL on servers: they bring the plug-in, clients need nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from compiled import operands, product
from servers import tvm_server
from tvm import rpc

from tvm_eff.device import EmulatedDevice, LocalDevice, native_server, opencl
from tvm_eff.device.opencl.loading import environment
from tvm_eff.device.server_process import ServerProcess


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


def test_tvm_server(
    drivers: tuple[str, ...], caches: dict[str, str], library: Path, tmp_path: Path
) -> None:
    with tvm_server(tmp_path, caches) as port:
        _check(rpc.connect("127.0.0.1", port), library)


@pytest.fixture
def native(
    drivers: tuple[str, ...], caches: dict[str, str], tmp_path: Path
) -> Iterator[ServerProcess]:
    """Run the server that has neither Python nor TVM beside it."""
    server = ServerProcess(
        lambda files: [
            native_server.build(platform.machine()),
            *("--port", "0", *files.options),
            *("--exit-on-stdin-eof", "--work-dir", str(tmp_path)),
        ],
        {**os.environ, **environment("pocl"), **caches},
    )
    yield server
    server.stop()


def test_server_without_python(native: ServerProcess, library: Path) -> None:
    _check(rpc.connect("127.0.0.1", native.port, native.key), library)


def test_server_without_python_refuses(native: ServerProcess) -> None:
    session = rpc.connect("127.0.0.1", native.port, native.key)
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

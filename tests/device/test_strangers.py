"""Whoever else uses the machine gets no code run by the servers that we start."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from places import BOARDS, HERE
from strangers import MAGIC, TRIES, greeting, stranger

from tvm_eff.device import EmulatedDevice, LocalDevice
from tvm_eff.device.spawned_server import SpawnedServerDevice
from tvm_eff.targets import Target
from tvm_eff.testing import Libraries

LEAST_TRIES = 1000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for ports in /proc")


@pytest.fixture(params=["local", "emulated"])
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[SpawnedServerDevice, Target]]:
    if request.param == "emulated":
        request.getfixturevalue("emulator")
        device: SpawnedServerDevice = EmulatedDevice("aarch64")
        target = BOARDS["aarch64"]
    else:
        device, target = LocalDevice(threads=1), HERE
    with device:
        yield device, target


def port_of(device: SpawnedServerDevice) -> int:
    assert device._server is not None
    return device._server.port


@pytest.mark.skipif(os.getuid() != 0, reason="only root can try as another user")
def test_another_user_tries_through_a_session(
    opened: tuple[SpawnedServerDevice, Target], libraries: Libraries
) -> None:
    device, target = opened
    device.close()
    library = libraries.behaviour(target)
    with stranger() as tried:
        began = time.monotonic()
        # As many as it takes: how often it gets its turn is the machine's affair.
        while tried.tries < LEAST_TRIES and time.monotonic() - began < 120:
            # A new server each time: it is there before we are connected to it.
            device.open()
            for _ in range(20):
                device.call(library, "nothing", [], [])
            device.close()
    assert tried.let_in == 0
    assert tried.seen >= 2
    assert tried.tries >= LEAST_TRIES


def test_nobody_without_the_key(opened: tuple[SpawnedServerDevice, Target]) -> None:
    device, _ = opened
    # The session that is open would keep everybody out.
    assert device._connection is not None
    device._connection.close()
    for text in TRIES:
        with socket.create_connection(("127.0.0.1", port_of(device)), timeout=0.3) as connection:
            connection.sendall(text)
            with suppress(TimeoutError, ConnectionError):
                assert connection.recv(4) != MAGIC


def test_silent_clients_keep_nobody_waiting(
    opened: tuple[SpawnedServerDevice, Target], libraries: Libraries
) -> None:
    device, target = opened
    assert device._server is not None
    address = "127.0.0.1", device._server.port
    silent = []
    for _ in range(200):
        # More than the system keeps waiting while the server is busy with us.
        with suppress(TimeoutError):
            silent.append(socket.create_connection(address, timeout=0.02))
    assert len(silent) > 50
    for each in silent[::2]:
        each.sendall(greeting(b"", length=10))
    began = time.monotonic()
    assert device._connection is not None
    device._connection.close()
    device._connection = device._connect()
    device.call(libraries.behaviour(target), "nothing", [], [])
    assert time.monotonic() - began < 8
    for each in silent:
        each.close()


def test_the_key_is_nowhere_to_be_seen(opened: tuple[SpawnedServerDevice, Target]) -> None:
    device, _ = opened
    server = device._server
    assert server is not None
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    for process in [psutil.Process(server.pid), psutil.Process(os.getpid())]:
        assert server.key not in " ".join(process.cmdline())
    for name in ("log", "port"):
        assert server.key not in (server.folder / name).read_text()
    assert server.key not in device.where


def test_two_servers_have_two_keys() -> None:
    with LocalDevice(threads=1) as one, LocalDevice(threads=1) as other:
        assert one._server is not None
        assert other._server is not None
        assert one._server.key != other._server.key
        assert len(one._server.key) >= 32


def test_key_file_of_the_native_server(tmp_path: Path) -> None:
    """It is refused, not taken for no key, if it holds none."""
    import platform
    import subprocess

    from tvm_eff.device import native_server

    server = native_server.build(platform.machine())
    for text in ("", "two words"):
        (tmp_path / "key").write_text(text)
        done = subprocess.run(
            [server, "--port", "0", "--key-file", tmp_path / "key"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 2
        assert "must hold one word" in done.stderr
    done = subprocess.run(
        [server, "--key-file", tmp_path / "none"], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert "cannot read the key file" in done.stderr

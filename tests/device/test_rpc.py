"""A user's RPC server: TVM's own, with everything that can go wrong on the way to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from places import HERE, surviving_server

from tvm_eff.deploy.machine import require_suitable
from tvm_eff.device import MeasureOptions, RpcDevice, native_server, parse_address
from tvm_eff.errors import DeviceError, UnsuitableDeviceError, UsageError
from tvm_eff.targets import architectures
from tvm_eff.testing import Libraries


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("board", "'board' is not an address; write HOST:PORT"),
        (":9090", "':9090' is not an address; write HOST:PORT"),
        ("board:", "'' in 'board:' is not a port"),
        ("board:http", "'http' in 'board:http' is not a port"),
        ("board:0", "'0' in 'board:0' is not a port"),
        ("board:65536", "'65536' in 'board:65536' is not a port"),
        ("board:-1", "'-1' in 'board:-1' is not a port"),
        ("board:²", "'²' in 'board:²' is not a port"),
    ],
)
def test_bad_address(text: str, wrong: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_address(text)
    assert wrong in str(raised.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [("pi.local:9090", ("pi.local", 9090)), ("[::1]:80", ("::1", 80))],
)
def test_address(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


def test_nothing_listens() -> None:
    port = free_port()
    with pytest.raises(
        DeviceError, match=f"nothing listens on 127.0.0.1:{port}; start the board's server"
    ):
        RpcDevice("127.0.0.1", port).open()


def test_unknown_host() -> None:
    with pytest.raises(DeviceError, match=r"the host 'board\.invalid' is not known"):
        RpcDevice("board.invalid", 9090).open()


def test_wrong_key() -> None:
    with (
        stock_server(key="pi") as (port, _),
        pytest.raises(DeviceError, match="has another key than the one given") as raised,
    ):
        RpcDevice("127.0.0.1", port, key="rock", timeout=5).open()
    assert "rock" not in str(raised.value)


def test_right_key_and_a_measurement(libraries: Libraries) -> None:
    with (
        stock_server(key="pi") as (port, _),
        RpcDevice("127.0.0.1", port, key="pi", timeout=20) as device,
    ):
        options = MeasureOptions(repeat=3, min_repeat_ms=5)
        _, cost = device.call(libraries.behaviour(HERE), "spin1", [], [], measure=options)
        assert cost is not None
        assert len(cost.values) == 3
        assert cost.unit == "seconds"
        assert device.where == f"rpc 127.0.0.1:{port}"


def test_something_else_that_answers() -> None:
    with (
        other_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port,
        pytest.raises(DeviceError, match="is not a TVM RPC server"),
    ):
        RpcDevice("127.0.0.1", port, timeout=3).open()


def test_something_else_that_is_silent() -> None:
    began = time.monotonic()
    with (
        other_server(b"") as port,
        pytest.raises(DeviceError, match="did not open a session within 2 s"),
    ):
        RpcDevice("127.0.0.1", port, timeout=2).open()
    assert time.monotonic() - began < 5


def test_board_in_use() -> None:
    with (
        surviving_server() as server,
        RpcDevice("127.0.0.1", server.port, server.key),
        pytest.raises(DeviceError, match="another client uses the board"),
    ):
        RpcDevice("127.0.0.1", server.port, server.key, timeout=2).open()


def test_crash_ends_tvms_own_server_and_the_message_says_so(libraries: Libraries) -> None:
    with stock_server() as (port, _), RpcDevice("127.0.0.1", port, timeout=3) as device:
        with pytest.raises(DeviceError, match=r"(?s)crash.*restart it on the board") as raised:
            device.call(libraries.behaviour(HERE), "crash", [], [])
        assert f"./tvm_eff_server --host 127.0.0.1 --port {port}" in str(raised.value)


def test_server_killed_in_mid_call(libraries: Libraries) -> None:
    with stock_server() as (port, group), RpcDevice("127.0.0.1", port, timeout=20) as device:
        threading.Timer(1.0, os.killpg, [group, signal.SIGKILL]).start()
        began = time.monotonic()
        with pytest.raises(DeviceError, match="did not come back"):
            device.call(libraries.behaviour(HERE), "hang", [], [])
        assert time.monotonic() - began < 10
        with pytest.raises(DeviceError, match="nothing listens"):
            device.open()


def test_session_is_renewed_before_the_server_ends_it(libraries: Libraries) -> None:
    with (
        surviving_server() as server,
        RpcDevice("127.0.0.1", server.port, server.key, timeout=1.5) as device,
    ):
        for _ in range(4):
            time.sleep(1.0)
            device.call(libraries.behaviour(HERE), "nothing", [], [])


def test_session_the_server_has_ended_already(libraries: Libraries) -> None:
    with (
        surviving_server() as server,
        RpcDevice("127.0.0.1", server.port, server.key, timeout=1.0) as device,
    ):
        time.sleep(3.0)
        device.call(libraries.behaviour(HERE), "nothing", [], [])


def test_hang_without_help_from_the_server(libraries: Libraries) -> None:
    """The board loses power: nothing more comes, not even the end of the connection."""
    with (
        surviving_server() as server,
        stalling_relay(server.port) as (relay, stall),
        RpcDevice("127.0.0.1", relay, server.key, timeout=2) as device,
    ):
        stall.set()
        began = time.monotonic()
        with pytest.raises(DeviceError, match=r"no answer within 2 s.*did not come back"):
            device.call(libraries.behaviour(HERE), "nothing", [], [])
        assert time.monotonic() - began < 20


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def stock_server(key: str = "") -> Iterator[tuple[int, int]]:
    """Run TVM's own RPC server; yield its port and process group."""
    port = free_port()
    command = [sys.executable, "-m", "tvm.exec.rpc_server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--port-end", str(port + 1), "--key", key]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        _wait_until_listening(port, process)
        yield port, process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "TVM's RPC server did not start"
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.1)
    pytest.fail("TVM's RPC server does not listen")


@contextmanager
def other_server(answer: bytes) -> Iterator[int]:
    """Accept connections and send `answer`."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted = []

    def serve() -> None:
        try:
            while True:
                connection, _ = listener.accept()
                accepted.append(connection)
                if answer:
                    connection.sendall(answer)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for connection in [listener, *accepted]:
            connection.close()


@contextmanager
def stalling_relay(port: int) -> Iterator[tuple[int, threading.Event]]:
    """Pass bytes to `port` and back, until the event is set: then keep them all."""
    listener = socket.create_server(("127.0.0.1", 0))
    stall = threading.Event()
    opened = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not stall.is_set():
                    sink.sendall(data)
            if not stall.is_set():
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def serve() -> None:
        try:
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                opened.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1]), stall
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for connection in opened:
            connection.close()


def test_a_board_of_another_architecture_is_refused_before_anything_is_sent(
    emulator: None,
) -> None:
    class Board(RpcDevice):
        """A board whose server is the one that is made for 32-bit Arm."""

        @property
        def architecture(self) -> str | None:
            return architectures.of_elf(native_server.build("arm").read_bytes())

    device = Board("board", 9090)
    with pytest.raises(UnsuitableDeviceError) as raised:
        require_suitable(device, "rasp4", "aarch64", ())
    message = str(raised.value)
    assert "runs programs for arm, and rasp4 is for aarch64" in message
    assert "targets for it: rasp3-armv7" in message


@pytest.mark.parametrize(
    ("content", "arch"),
    [(b"", None), (b"#!/bin/sh\necho this is no program\n", None), (b"\x7fELF", None)],
)
def test_what_is_no_program_has_no_architecture(content: bytes, arch: str | None) -> None:
    assert architectures.of_elf(content) == arch
    assert architectures.of_elf(Path(sys.executable).read_bytes()) == (
        architectures.of_this_process()
    )


def test_a_processor_without_a_feature_is_refused() -> None:
    with (
        surviving_server() as server,
        RpcDevice("127.0.0.1", server.port, server.key) as device,
    ):
        arch = architectures.of_this_process()
        assert device.architecture == arch
        require_suitable(device, "here", arch, ())
        with pytest.raises(UnsuitableDeviceError, match="lacks warp_drive, which code for here"):
            require_suitable(device, "here", arch, ("warp_drive",))

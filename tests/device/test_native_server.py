"""The board's server, built for this machine and talked to by TVM's own client."""

from __future__ import annotations

import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tvm
from places import HERE
from tvm import relax, rpc

from tvm_eff.cli import board_server
from tvm_eff.codegen import toolchain
from tvm_eff.device import native_server
from tvm_eff.errors import SetupError, UsageError

HOST = platform.machine()
DEADLINE = 20.0

pytestmark = pytest.mark.skipif(
    HOST not in native_server.ARCHITECTURES, reason=f"no server is made for {HOST}"
)


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    port: int
    work: Path
    log: Path

    def connect(self, timeout: int = 60, key: str = "") -> Any:
        return rpc.connect("127.0.0.1", self.port, key, session_timeout=timeout)

    def sessions(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def answers(self) -> bool:
        """Whether a new session gets its data back."""
        sent = np.arange(5, dtype="float32")
        return bool((tvm.runtime.tensor(sent, self.connect().cpu(0)).numpy() == sent).all())


@pytest.fixture(scope="module")
def executable() -> Path:
    return native_server.build(HOST)


@pytest.fixture
def start(executable: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def one(*options: str) -> Server:
        port_file, log = tmp_path / "port", tmp_path / "log"
        work = tmp_path / "work"
        work.mkdir()
        command = [executable, "--port", "0", "--port-file", port_file, "--work-dir", work]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*map(str, command), "--exit-on-stdin-eof", *options],
                stdin=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        started.append(process)
        wait_for(port_file.exists)
        return Server(process, int(port_file.read_text()), work, log)

    yield one
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def load(session: Any, library: Path) -> Any:
    session.upload(str(library))
    return session.load_module(library.name)


def call_without_waiting(server: Server, library: Path, name: str) -> subprocess.Popen[bytes]:
    """Call a function that does not return, from a client process that may be killed."""
    program = (
        "import sys; from tvm import rpc; from pathlib import Path\n"
        "session = rpc.connect('127.0.0.1', int(sys.argv[1]))\n"
        "session.upload(sys.argv[2])\n"
        "function = session.load_module(Path(sys.argv[2]).name)[sys.argv[3]]\n"
        "print('calling', flush=True)\n"
        "function()\n"
    )
    command = [sys.executable, "-c", program, str(server.port), str(library), name]
    client = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdout.readline() == b"calling\n"
    return client


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="'aarch46'; did you mean 'aarch64'"):
        native_server.build("aarch46")


@pytest.mark.parametrize("version", ["", "2", "2.x", "2.31 -o /etc/passwd"])
def test_glibc_must_be_a_version(version: str) -> None:
    with pytest.raises(UsageError, match="is not a version of glibc"):
        native_server.build(HOST, glibc=version)


def test_a_wheel_without_its_sources_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tvm").mkdir()
    (tmp_path / "tvm" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tvm")
    with pytest.raises(SetupError, match=rf"{tmp_path}.*is missing.*pip install"):
        native_server.build(HOST)


def test_command_line_reports_bad_input_without_traceback(
    executable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "missing" / "server"
    assert board_server.main(["--arch", "mips"]) == 2
    assert board_server.main(["--arch", HOST, "--output", str(nowhere)]) == 2
    errors = capsys.readouterr().err
    assert "unknown architecture 'mips'" in errors
    assert f"cannot write {nowhere}" in errors


def test_command_line_writes_a_server_and_says_how_to_run_it(
    executable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "board_server"
    assert board_server.main(["--arch", HOST, "--output", str(output)]) == 0
    assert "./board_server --port 9090 --host 127.0.0.1" in capsys.readouterr().out
    printed = subprocess.run([output, "--version"], capture_output=True, text=True, check=True)
    assert tvm.__version__.startswith(printed.stdout.strip())


def test_it_is_built_once_and_small(executable: Path) -> None:
    before = executable.stat()
    assert native_server.build(HOST) == executable
    assert executable.stat().st_mtime_ns == before.st_mtime_ns
    assert before.st_size < 10e6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port '70000' is not a number from 0 to 65535"),
        (["--host", "256.1.1.1", "--port", "0"], "--host '256.1.1.1'"),
        (["--work-dir", "/proc/nowhere"], "cannot write to the folder /proc/nowhere"),
        (["--port", "0", "--port-file", "/proc/nowhere"], "cannot write /proc/nowhere"),
        (["--unknown"], "usage:"),
    ],
)
def test_bad_options_end_it_with_code_2(executable: Path, options: list[str], message: str) -> None:
    done = subprocess.run(
        [str(executable), *options], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 2
    assert message in done.stderr


def test_a_port_in_use_is_an_error(server: Server, executable: Path) -> None:
    command = [str(executable), "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{server.port}" in done.stderr


def test_it_listens_on_this_machine_only(server: Server) -> None:
    listening = psutil.Process(server.process.pid).net_connections()
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x71\xf2\x0f\x00\xff\xff\xff\xff"]
)
def test_whoever_is_no_tvm_client_is_turned_away(server: Server, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as client:
        client.sendall(sent)
        with suppress(OSError):  # the server may have hung up before
            client.shutdown(socket.SHUT_WR)
        # It may hang up before it has read everything.
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
    assert server.answers()


def test_another_key_is_refused(start: Callable[..., Server]) -> None:
    server = start("--key", "rasp4")
    with pytest.raises(tvm.error.InternalError, match="cannot find server that matches key"):
        server.connect(key="rasp3")
    server.connect(key="rasp4").cpu(0).sync()


def test_a_crash_is_told_and_the_next_session_works(server: Server, libraries: Any) -> None:
    module = load(server.connect(), libraries.behaviour(HERE))
    with pytest.raises(tvm.error.RPCError, match=r"ended with signal \d+ \((Illegal|Trace)"):
        module["crash"]()
    del module
    assert server.answers()


def test_leaving_the_process_ends_only_the_session(server: Server, libraries: Any) -> None:
    module = load(server.connect(), libraries.behaviour(HERE))
    with pytest.raises(tvm.error.InternalError):
        module["leave"]()
    del module
    assert server.answers()


def test_a_session_over_its_time_is_ended_and_told(server: Server, libraries: Any) -> None:
    module = load(server.connect(timeout=1), libraries.behaviour(HERE))
    with pytest.raises(tvm.error.RPCSessionTimeoutError, match="1s session has expired"):
        module["hang"]()
    del module
    assert server.answers()


def test_a_client_that_dies_does_not_hold_the_board(server: Server, libraries: Any) -> None:
    client = call_without_waiting(server, libraries.behaviour(HERE), "hang")
    client.kill()
    client.communicate()
    assert server.answers()


def test_a_missing_function_is_told_when_the_library_loads(server: Server, tmp_path: Path) -> None:
    source, built = tmp_path / "missing.c", tmp_path / "missing.o"
    source.write_text("int absent(void); int __tvm_ffi_f(void) { return absent(); }\n")
    toolchain.run(["cc", "-fPIC", "-c", source, "-o", built])
    toolchain.link_shared([built], tmp_path / "missing.so")
    session = server.connect()
    with pytest.raises(tvm.error.RPCError, match="undefined symbol: absent"):
        load(session, tmp_path / "missing.so")
    # It is still the same session.
    session.upload(bytearray(b"bytes"), "file")
    assert bytes(session.download("file")) == b"bytes"


def test_an_object_file_is_refused_with_the_way_out(server: Server) -> None:
    session = server.connect()
    session.upload(bytearray(b"anything"), "lib.o")
    with pytest.raises(tvm.error.RPCError, match="link on the host, then upload"):
        session.load_module("lib.o")


@pytest.mark.parametrize("how", ["end of standard input", "SIGTERM", "SIGKILL"])
def test_no_session_outlives_the_server(server: Server, libraries: Any, how: str) -> None:
    client = call_without_waiting(server, libraries.behaviour(HERE), "hang")
    (session,) = server.sessions()
    if how == "end of standard input":
        assert server.process.stdin is not None
        server.process.stdin.close()
    else:
        server.process.send_signal(getattr(signal, how))
    server.process.wait(DEADLINE)
    wait_for(lambda: not session.is_running() or session.status() == psutil.STATUS_ZOMBIE)
    client.kill()
    client.communicate()
    if how != "SIGKILL":
        assert list(server.work.iterdir()) == []


def test_a_second_client_waits_for_the_first(server: Server, libraries: Any) -> None:
    first = call_without_waiting(server, libraries.behaviour(HERE), "hang")
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as second:
        second.sendall(b"\x71\xf2\x0f\x00\x07\x00\x00\x00client:")
        with pytest.raises(TimeoutError):
            second.recv(4)
        first.kill()
        first.communicate()
        second.settimeout(DEADLINE)
        assert second.recv(4) == b"\x71\xf2\x0f\x00"


def test_a_session_leaves_no_files(server: Server, libraries: Any) -> None:
    session = server.connect()
    load(session, libraries.behaviour(HERE))
    (folder,) = server.work.iterdir()
    assert [path.name for path in folder.iterdir()] == [libraries.behaviour(HERE).name]
    del session
    wait_for(lambda: list(server.work.iterdir()) == [])


def test_files_go_there_and_back(server: Server) -> None:
    session = server.connect()
    content = bytearray(np.random.default_rng(0).bytes(3_000_000))
    session.upload(content, "file")
    assert session.download("file") == content
    session.remove("file")
    with pytest.raises(tvm.error.RPCError, match="Cannot open"):
        session.download("file")


def test_tensors_larger_than_any_buffer_go_there_and_back(server: Server) -> None:
    sent = np.random.default_rng(0).random(5_000_000, dtype="float32")
    remote = tvm.runtime.tensor(sent, server.connect().cpu(0))
    np.testing.assert_array_equal(remote.numpy(), sent)


def test_a_relax_library_computes_and_is_timed(server: Server, libraries: Any) -> None:
    session = server.connect()
    device = session.cpu(0)
    machine = relax.VirtualMachine(load(session, libraries.square(HERE)), device)
    sent = np.linspace(-2, 2, 5, dtype="float32")
    machine.set_input("main", tvm.runtime.tensor(sent, device))
    machine.invoke_stateful("main")
    np.testing.assert_array_equal(machine.get_outputs("main").numpy(), sent * sent)
    timed = machine.time_evaluator("invoke_stateful", device, number=3, repeat=2)("main")
    assert len(timed.results) == 2
    assert min(timed.results) > 0


def test_a_single_function_computes_and_is_timed(server: Server, libraries: Any) -> None:
    session = server.connect()
    device = session.cpu(0)
    module = load(session, libraries.double(HERE))
    sent = np.random.default_rng(0).random((32, 16), dtype="float32")
    arguments = [tvm.runtime.tensor(sent, device), tvm.runtime.empty((32, 16), device=device)]
    module["double"](*arguments)
    np.testing.assert_allclose(arguments[1].numpy(), sent * 2 + 1, rtol=1e-6)
    flush = "cache_flush_cpu_non_first_arg"
    timed = module.time_evaluator("double", device, number=2, repeat=3, f_preproc=flush)
    assert min(timed(*arguments).results) > 0

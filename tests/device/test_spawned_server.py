"""Devices whose server is our own process: what happens when somebody dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from places import BOARDS, HERE

from tvm_eff.device import EmulatedDevice, LocalDevice
from tvm_eff.device.spawned_server import SpawnedServerDevice
from tvm_eff.errors import DeviceError, ExecutionError, UsageError
from tvm_eff.tensors import TensorSpec
from tvm_eff.testing import Libraries

MAKERS: dict[str, Callable[[], SpawnedServerDevice]] = {
    "local": lambda: LocalDevice(threads=1, timeout=30),
    "emulated": lambda: EmulatedDevice("aarch64", timeout=30),
}
TARGET = {"local": HERE, "emulated": BOARDS["aarch64"]}


@pytest.fixture(params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "emulated":
        request.getfixturevalue("emulator")
    return str(request.param)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_unknown_architecture() -> None:
    with pytest.raises(UsageError, match="'aarch46' cannot be emulated; did you mean 'aarch64'"):
        EmulatedDevice("aarch46")


def test_unknown_cpu(emulator: None) -> None:
    with pytest.raises(DeviceError, match="cortex-a99"):
        EmulatedDevice("aarch64", "cortex-a99").open()
    assert not leftovers()


def test_memory_that_is_not_there_is_refused(libraries: Libraries) -> None:
    with MAKERS["local"]() as device:
        with pytest.raises(ExecutionError, match=r"'exhaust' of behaviour.*crash"):
            device.call(libraries.behaviour(HERE), "exhaust", [], [])
        device.health()


def test_killed_between_calls(kind: str, libraries: Libraries) -> None:
    with MAKERS[kind]() as device:
        kill(device)
        with pytest.raises(ExecutionError):
            device.call(libraries.behaviour(TARGET[kind]), "nothing", [], [])
        device.call(libraries.behaviour(TARGET[kind]), "nothing", [], [])


def test_killed_in_mid_call(kind: str, libraries: Libraries) -> None:
    with MAKERS[kind]() as device:
        before = device.pid
        threading.Timer(0.5, kill, [device]).start()
        with pytest.raises(ExecutionError):
            device.call(libraries.behaviour(TARGET[kind]), "hang", [], [])
        device.call(libraries.behaviour(TARGET[kind]), "nothing", [], [])
        assert device.pid != before


def test_two_at_once(kind: str, libraries: Libraries) -> None:
    library = libraries.double(TARGET[kind])
    specs = [TensorSpec((32, 16), "float32")]
    with MAKERS[kind]() as one, MAKERS[kind]() as two:
        assert one.pid != two.pid
        for device, value in ((one, 1), (two, 2), (one, 3)):
            x = np.full((32, 16), value, "float32")
            (y,), _ = device.call(library, "double", [x], specs)
            np.testing.assert_array_equal(y, 2 * x + 1)
        kill(one)
        two.health()


def test_close_while_the_code_hangs_leaves_nothing(kind: str, libraries: Libraries) -> None:
    device = MAKERS[kind]()
    device.open()
    group = device.pid
    assert group is not None
    # As Ctrl-C does in the middle of a call.
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        device.call(libraries.behaviour(TARGET[kind]), "hang", [], [])
    device.close()
    assert_gone(group)
    assert not leftovers()


@pytest.mark.parametrize("death", ["SIGKILL", "exit"])
def test_server_ends_with_its_owner(kind: str, emulator: None, death: str) -> None:
    script = (
        "import sys, time\n"
        "from tvm_eff.device import EmulatedDevice, LocalDevice\n"
        f"device = {'LocalDevice' if kind == 'local' else 'EmulatedDevice'}()\n"
        "device.open()\n"
        "print(device.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    group = int(owner.stdout.readline())
    assert members(group)
    if death == "SIGKILL":
        owner.kill()
    owner.stdin.close()
    owner.wait()
    owner.stdout.close()
    assert_gone(group)
    if death == "exit":
        assert not leftovers()


def test_folder_of_a_killed_owner_is_removed_by_the_next(kind: str) -> None:
    abandoned = Path(tempfile.mkdtemp(prefix="tvm_eff-device-"))
    long_ago = time.time() - 3600
    os.utime(abandoned, (long_ago, long_ago))
    with MAKERS[kind]() as device:
        assert not abandoned.exists()
        os.utime(next(iter(leftovers())), (long_ago, long_ago))
        with MAKERS[kind]():
            device.health()
            assert len(leftovers()) == 2


def test_what_others_put_in_the_temporary_folder_is_left_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    long_ago = time.time() - 3600
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / ".owner").write_text("not to be emptied")
    (tmp_path / "tvm_eff-device-link").symlink_to(treasure)
    os.utime(tmp_path / "tvm_eff-device-link", (long_ago, long_ago), follow_symlinks=False)
    foreign = tmp_path / "tvm_eff-device-foreign"
    foreign.mkdir()
    os.mkfifo(foreign / ".owner")
    os.utime(foreign, (long_ago, long_ago))
    uid = os.getuid()
    # As if the second folder were another user's; the first is ours, and a link.
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with MAKERS[kind]() as device:
        device.health()
    assert (treasure / ".owner").read_text() == "not to be emptied"
    assert foreign.is_dir()
    monkeypatch.setattr(os, "getuid", lambda: uid)
    (foreign / ".owner").unlink()
    os.utime(foreign, (long_ago, long_ago))
    with MAKERS[kind]() as device:
        device.health()
    assert (treasure / ".owner").read_text() == "not to be emptied"
    assert not foreign.exists()


def test_worker_forked_meanwhile_does_not_keep_the_server_alive(kind: str) -> None:
    with MAKERS[kind]() as device:
        group = device.pid
        assert group is not None
        worker = os.fork()
        if worker == 0:
            time.sleep(60)
            os._exit(0)
        try:
            device.health()
            device._server.forget()  # type: ignore[union-attr]
            assert_gone(group)
        finally:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)


def kill(device: SpawnedServerDevice) -> None:
    assert device.pid is not None
    os.killpg(device.pid, signal.SIGKILL)


def members(group: int) -> list[psutil.Process]:
    """Return a process group's processes, but for dead ones nobody has waited for."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and os.getpgid(process.pid) == group:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


def assert_gone(group: int) -> None:
    end = time.monotonic() + 10
    while members(group):
        assert time.monotonic() < end, members(group)
        time.sleep(0.05)


def leftovers() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("tvm_eff-device-*"))

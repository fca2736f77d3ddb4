"""Temporary folders go with their owners, or with the next one; what is not ours stays."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tvm_eff import scratch
from tvm_eff.errors import SetupError

OWNER = """
import sys, tempfile
from tvm_eff.scratch import ScratchFolder
tempfile.tempdir = sys.argv[1]
folder = ScratchFolder("test-")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def owner(shared: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(shared)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_is_for_nobody_else_and_goes_at_the_end() -> None:
    with scratch.scratch_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()
    assert not folder.exists()


def test_the_folder_of_a_living_owner_stays(shared: Path) -> None:
    with owner(shared) as (_, folder), scratch.scratch_folder() as own:
        scratch.remove_abandoned()
        assert folder.is_dir()
        assert own.is_dir()


def test_the_folder_of_a_killed_owner_goes_with_the_next(shared: Path) -> None:
    with owner(shared) as (process, folder):
        (folder / "library.so").touch()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert folder.is_dir()
        with scratch.scratch_folder():
            assert not folder.exists()


def test_links_and_what_is_anothers_are_left_alone(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    treasure = shared / "treasure"
    treasure.mkdir()
    (treasure / ".owner").write_text("not to be emptied")
    (shared / "tvm_eff-link").symlink_to(treasure)
    (shared / "tvm_eff-file").write_text("not to be removed")
    foreign = shared / "tvm_eff-foreign"
    foreign.mkdir()
    os.mkfifo(foreign / ".owner")
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    scratch.remove_abandoned()
    assert (treasure / ".owner").read_text() == "not to be emptied"
    assert (shared / "tvm_eff-file").read_text() == "not to be removed"
    assert (shared / "tvm_eff-link").is_symlink()
    assert foreign.is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which sockets are alive")
def test_sockets_of_dead_builders_go(shared: Path) -> None:
    dead, alive, other = (shared / f"pymp-{name}" for name in ("dead", "alive", "other"))
    for folder in (dead, alive, other):
        folder.mkdir()
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(dead / "listener-a"))
    (other / "arena").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(alive / "listener-b"))
        listening.listen()
        scratch.remove_abandoned()
        assert {each.name for each in shared.glob("pymp-*")} == {"pymp-alive", "pymp-other"}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no /dev/shm")
def test_semaphores_of_dead_sessions_go() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    names = {
        pid: Path("/dev/shm") / f"sem.{scratch.semaphore_prefix(pid)[1:]}-test"
        for pid in (ended.pid, os.getpid())
    }
    try:
        for path in names.values():
            path.touch()
        scratch.remove_abandoned()
        assert not names[ended.pid].exists()
        assert names[os.getpid()].exists()
    finally:
        for path in names.values():
            path.unlink(missing_ok=True)


def test_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))
    with pytest.raises(SetupError, match=r"cannot make a folder in .*nothing.*set TMPDIR"):
        scratch.ScratchFolder()


def test_a_process_with_builders_leaves_nothing(tmp_path: Path) -> None:
    """Its servers keep their sockets to the end, and the end is silent."""
    script = """
import multiprocessing
from tvm_eff.scratch import private_temporary_folder

if __name__ == "__main__":
    for _ in range(2):
        with private_temporary_folder():
            with multiprocessing.get_context("forkserver").Pool(1) as pool:
                print(pool.apply(abs, (-3,)))
"""
    (tmp_path / "script.py").write_text(script)
    # A socket's path has a hundred characters at most.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, tmp_path / "script.py"],
            env={**os.environ, "TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "3\n3\n", "")
        assert list(Path(folder).iterdir()) == []

"""Temporary folders with a living owner; those of dead ones are found and removed.

A process that is killed removes nothing. Each folder therefore has a lock that its owner holds
as long as it lives, and whoever makes the next one looks for those whose lock is free. The
temporary folder of a machine is everybody's: what another user put there under our names is left
alone, and so is a link, wherever it leads.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from tvm_eff.errors import SetupError

PREFIX = "tvm_eff-"
# Of folders that are not locked yet.
_NEW = ".tvm_eff-new-"
_LOCK = ".owner"
_LONG_AGO = 60.0


class ScratchFolder:
    """A new temporary folder, which nobody else may enter.

    Raises
    ------
    SetupError
        It cannot be made.
    """

    def __init__(self, kind: str = "") -> None:
        remove_abandoned()
        try:
            new = Path(tempfile.mkdtemp(prefix=_NEW))
            self._lock = _lock(new)
            # Under this name it has been locked ever since it is there.
            self.path = new.rename(new.with_name(PREFIX + kind + new.name.removeprefix(_NEW)))
        except OSError as error:
            raise SetupError(
                f"cannot make a folder in {tempfile.gettempdir()}: {error.strerror}; make room "
                "there, or set TMPDIR to another folder"
            ) from error

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new temporary folder, which is removed at the end.

    Raises
    ------
    SetupError
        It cannot be made.
    """
    folder = ScratchFolder()
    try:
        yield folder.path
    finally:
        folder.remove()


@contextmanager
def private_temporary_folder() -> Iterator[None]:
    """Have all that is temporary in a folder of this process' own, also what libraries make.

    It is for programs, not for a part of one: what still lies there at the end is removed.
    """
    _have_sockets_owned()
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with scratch_folder() as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable


def _have_sockets_owned() -> None:
    """Have the sockets of builders' servers, which live as long as this process, in a folder of it.

    multiprocessing makes that folder once, at first empty, so that nothing but an owner tells
    whether the process that made it still lives.
    """
    if multiprocessing.current_process()._config.get("tempdir") is not None:  # type: ignore[attr-defined]
        return
    owned = ScratchFolder()
    before = tempfile.tempdir
    tempfile.tempdir = str(owned.path)
    try:
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = before
    # Behind multiprocessing's own removal of what is in it, which has a priority of -100.
    multiprocessing.util.Finalize(None, owned.remove, exitpriority=-200)


def remove_abandoned() -> None:
    """Remove what processes of this user left that were killed before they could."""
    shared = Path(tempfile.gettempdir())
    for folder in (*shared.glob(PREFIX + "*"), *filter(_is_old, shared.glob(_NEW + "*"))):
        with suppress(OSError, filelock.Timeout):
            if _is_folder_of_ours(folder):
                _lock(folder).release()
                shutil.rmtree(folder, ignore_errors=True)
    if sys.platform == "linux":
        with suppress(OSError):
            _remove_sockets_of_dead_builders(shared)
        _remove_semaphores_of_dead_sessions()


def semaphore_prefix(pid: int) -> str:
    """Return how the names of a session's semaphores begin, as multiprocessing makes them."""
    return f"/tvm_eff-{pid}"


def _lock(folder: Path) -> filelock.BaseFileLock:
    lock = filelock.FileLock(folder / _LOCK, thread_local=False)
    lock.acquire(blocking=False)
    return lock


def _is_folder_of_ours(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _is_old(folder: Path) -> bool:
    with suppress(OSError):
        return time.time() - folder.lstat().st_mtime > _LONG_AGO
    return False


def _remove_sockets_of_dead_builders(shared: Path) -> None:
    """Remove the folders in which the servers that builders are forked from had their sockets."""
    found = [each for each in shared.glob("pymp-*") if _is_folder_of_ours(each)]
    names = {folder: [each.name for each in folder.iterdir()] for folder in found}
    # Read last: whatever is in a folder that was found has been bound by then.
    bound = Path("/proc/net/unix").read_text(errors="replace")
    for folder, inside in names.items():
        sockets = bool(inside) and all(name.startswith("listener-") for name in inside)
        if sockets and not any(str(folder / name) in bound for name in inside):
            shutil.rmtree(folder, ignore_errors=True)


def _remove_semaphores_of_dead_sessions() -> None:
    prefix = "sem." + semaphore_prefix(0).removeprefix("/")[:-1]
    for path in Path("/dev/shm").glob(f"{prefix}*"):
        pid = path.name.removeprefix(prefix).partition("-")[0]
        with suppress(OSError, ValueError):
            if path.lstat().st_uid == os.getuid() and not _is_alive(int(pid)):
                path.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

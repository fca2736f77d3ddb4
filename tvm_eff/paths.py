"""Where things lie: shipped data, the cache, records; and writing that is whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tvm_eff.errors import Error, SetupError

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent
# setup.py copies the folders here when it builds a wheel.
_INSTALLED = _PACKAGE / "_data"
_SHOWN = 300


def is_checkout() -> bool:
    """Whether the package runs from a clone of its repository (an editable install)."""
    return (_CHECKOUT / "setup.py").is_file() and (_CHECKOUT / "targets").is_dir()


def data_folder(name: str) -> Path:
    """Return the folder of shipped data called `name`, such as ``targets``.

    Raises
    ------
    SetupError
        The package was installed without its data.
    """
    path = (_CHECKOUT if is_checkout() else _INSTALLED) / name
    if path.is_dir():
        return path
    raise SetupError(
        f"the data folder {path} is missing: the installation is incomplete; "
        "install the package again with pip install --force-reinstall --no-deps"
    )


def tuning_logs() -> Path:
    """Return where new records go when the user names no folder.

    That is the repository's own folder in a checkout, so that records can be
    committed, and ``tuning_logs`` in the current folder otherwise.
    """
    return (_CHECKOUT if is_checkout() else Path.cwd()) / "tuning_logs"


def cache_folder() -> Path:
    """Return the cache folder, made if need be: what was downloaded or built once.

    ``$TVM_EFF_CACHE`` names it; otherwise it is the user's own cache folder.

    Raises
    ------
    SetupError
        The folder cannot be made or written.
    """
    import platformdirs

    path = Path(os.environ.get("TVM_EFF_CACHE") or platformdirs.user_cache_dir("tvm_eff"))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"cannot make the cache folder {path}: {error.strerror}; "
            "set TVM_EFF_CACHE to a folder you may write to"
        ) from error
    if not os.access(path, os.W_OK):
        raise SetupError(
            f"the cache folder {path} is not writable; "
            "set TVM_EFF_CACHE to a folder you may write to"
        )
    return path


@contextmanager
def locked_cache_entry(name: str) -> Iterator[Path]:
    """Hold the lock of the cache entry `name` and yield the entry's path.

    Two processes that need the same entry make it once: the second waits, then
    finds it there. The path itself is not created.
    """
    import filelock

    path = cache_folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        logger.warning("waiting for another process that makes %s", path.name)
        lock.acquire()
    try:
        yield path
    finally:
        lock.release()


@contextmanager
def open_regular(path: Path, error: type[Error], advice: str) -> Iterator[IO[bytes]]:
    """Open a file to read, which must be one: a FIFO would wait for ever, a device never end.

    Parameters
    ----------
    path
        The file; links are followed.
    error
        Raised for whatever is wrong, also while it is read.
    advice
        What to do next, for messages.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            yield file
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"cannot read {short(path)}: {reason}; {advice}") from cause


def read_regular(path: Path, most: int, error: type[Error], advice: str) -> bytes:
    """Return what a file holds, which must be a regular one of at most so many bytes.

    Parameters
    ----------
    path, error, advice
        As for :func:`open_regular`.
    most
        The bytes it may have.
    """
    with open_regular(path, error, advice) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise error(f"{short(path)} is larger than {most / 1e6:g} MB; {advice}")
    return content


def short(path: Path) -> str:
    """Return a path as messages show it: not all of a name that is no name."""
    text = str(path)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `path` unless the work raises.

    What `path` held before is gone then. If the process is killed at the one moment
    between, it lies beside, under a hidden name that ends with ``.old``.
    """
    part = _beside(path, "part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        _swap(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write, which becomes `path` unless the work raises."""
    part = _beside(path, "part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, and has reached the disk on return."""
    with atomic_file(path) as part, part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    # A folder that is not empty cannot be renamed over.
    old = _beside(path, "old")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{suffix}")

"""The cache folder: what was downloaded, built or unpacked once for this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import platformdirs

from tvm_eff.errors import SetupError


def root() -> Path:
    """Return the cache folder, made if need be.

    ``$TVM_EFF_CACHE`` names it; otherwise it is the user's own cache folder.

    Raises
    ------
    SetupError
        The folder cannot be made or written.
    """
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
def locked(name: str) -> Iterator[Path]:
    """Hold the lock of the cache entry `name` and yield the entry's path.

    Two processes that need the same entry make it once: the second waits, then
    finds it there. The path itself is not created.
    """
    path = root() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(path.name + ".lock")):
        yield path

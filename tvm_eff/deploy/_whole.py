"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder(path: Path) -> Iterator[Path]:
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
def file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write, which becomes `path` unless the work raises."""
    part = _beside(path, "part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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

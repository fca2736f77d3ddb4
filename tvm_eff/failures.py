"""What is written down when something of ours or of TVM's fails: for a report."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from datetime import datetime
from importlib import metadata
from pathlib import Path

from tvm_eff import paths
from tvm_eff.errors import Error

_FOLDER = "failures"
_PACKAGES = ("tvm_eff", "apache-tvm", "apache-tvm-ffi", "torch", "numpy")
_SECRET = "--key"
_ROOT = Path(__file__).resolve().parent


def written(error: BaseException) -> Path | None:
    """Write what a report needs to a file in the cache folder.

    Returns
    -------
    Path or None
        The file; None if it cannot be written.
    """
    try:
        folder = paths.cache_folder() / _FOLDER
        folder.mkdir(exist_ok=True)
        path = folder / f"{datetime.now():%Y-%m-%d-%H%M%S}-{os.getpid()}.txt"
        path.write_text(_text(error), encoding="utf-8")
    except (OSError, Error):
        return None
    return path


def advice(error: BaseException) -> str:
    """Return the end of a message: where the details are, once they are, and what to do."""
    path = written(error)
    if path is None:
        return f"this is not your mistake; report it: {type(error).__name__}: {error}"
    return f"this is not your mistake; the details are in {path}: report it with the model"


def place(error: BaseException) -> str:
    """Return the innermost place of this package that an error went through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if _ROOT in path.parents:
            return f"{path.relative_to(_ROOT.parent)}:{frame.lineno}"
    return "a library"


def _text(error: BaseException) -> str:
    lines = [
        f"command: {' '.join(_without_secrets(sys.argv))}",
        f"system: {platform.platform()}, Python {platform.python_version()}",
        f"packages: {', '.join(map(_version, _PACKAGES))}",
        "",
        "".join(traceback.format_exception(error)),
    ]
    return "\n".join(lines)


def _without_secrets(words: list[str]) -> list[str]:
    found = list(words)
    for number, word in enumerate(words):
        if word == _SECRET and number + 1 < len(words):
            found[number + 1] = "..."
        elif word.startswith(f"{_SECRET}="):
            found[number] = f"{_SECRET}=..."
    return found


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} not installed"

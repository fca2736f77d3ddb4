"""Files of JSON lines that are only appended to, and survive a crash in the middle of it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tvm_eff.errors import RecordError

Parsed = TypeVar("Parsed")

logger = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from the files of `folder`, as far as they ask for the lock too."""
    import fcntl  # not on Windows, where this module is imported but not used

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read(path: Path, what: str, parse: Callable[[Any], Parsed]) -> list[Parsed]:
    """Parse every line of a file; there are none where there is no file.

    Parameters
    ----------
    path
        The file.
    what
        What a line must be, for the message.
    parse
        Makes a record of a line's JSON, or raises.

    Raises
    ------
    RecordError
        The file cannot be read, or a line cannot be parsed; the message says which.
    """
    parsed = []
    for number, line in enumerate(_content(path).splitlines(), start=1):
        try:
            parsed.append(parse(json.loads(line)))
        except Exception as error:  # TVM's parsers raise types of their own
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise RecordError(
                f"{path}, line {number}: not {what} ({reason}); remove the line, "
                "or move the file away to start afresh"
            ) from error
    return parsed


def repair(path: Path) -> None:
    """Drop a last line that was cut short, with a warning; complete one that lacks its end.

    Raises
    ------
    RecordError
        The file cannot be read or written, or another line is no JSON.
    """
    content = _content(path)
    complete = content[: content.rfind(b"\n") + 1]
    torn = content[len(complete) :]
    for number, line in enumerate(complete.splitlines(), start=1):
        if not _is_json(line):
            raise RecordError(
                f"{path}, line {number}: not JSON; remove the line, "
                "or move the file away to start afresh"
            )
    if not torn:
        return
    if _is_json(torn):
        _append(path, b"\n")
        return
    logger.warning("%s: the last line was cut short and is dropped", path)
    try:
        with path.open("r+b") as file:
            file.truncate(len(complete))
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def append(path: Path, line: Any) -> None:
    """Append one line, which has reached the disk on return.

    Raises
    ------
    RecordError
        It cannot be written: no right, no room.
    """
    _append(path, encode([line]))


def encode(lines: Iterable[Any]) -> bytes:
    """Return what a file of these lines holds."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise RecordError(
            f"{path} cannot be read: {error.strerror}; move it away to start afresh"
        ) from error


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _append(path: Path, content: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RecordError:
    return RecordError(
        f"cannot write {path}: {error.strerror}; make room or give the right to write, and run the "
        "same command again: nothing that was measured before is lost"
    )

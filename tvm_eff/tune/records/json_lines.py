"""Files of JSON lines that are only appended to, and survive a crash in the middle of it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import filelock

from tvm_eff import paths
from tvm_eff.errors import RecordError

Parsed = TypeVar("Parsed")

logger = logging.getLogger(__name__)

_ADVICE = "remove the line, or move the file away to start afresh"


LOCK, SESSION_LOCK = ".lock", ".session"
"""The files of a folder's locks, for a moment and for a session; they stay."""


def locked(folder: Path) -> filelock.BaseFileLock:
    """Keep other processes from the files of `folder`, as far as they ask for the lock too."""
    return filelock.FileLock(folder / LOCK)


@contextmanager
def only_session(folder: Path) -> Iterator[bool]:
    """Wait until no other session measures for the records of `folder`; yield whether one did.

    Two at once would measure the same candidates, and disturb each other.
    """
    lock = filelock.FileLock(folder / SESSION_LOCK)
    waited = False
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        waited = True
        logger.warning(
            "another session measures for %s: waiting for it to end; with --logs ANOTHER_FOLDER "
            "this one would go on beside it",
            folder,
        )
        lock.acquire()
    try:
        yield waited
    finally:
        lock.release()


def read(
    path: Path, what: str, parse: Callable[[Any], Parsed], advice: str = _ADVICE
) -> list[Parsed]:
    """Parse every line of a file; there are none where there is no file.

    Parameters
    ----------
    path
        The file.
    what
        What a line must be, for the message.
    parse
        Makes a record of a line's JSON, or raises.
    advice
        What to do about a line that cannot be parsed.

    Raises
    ------
    RecordError
        The file cannot be read, or a line cannot be parsed; the message says which.
    """
    parsed = []
    for number, line in enumerate(_lines(_content(path)), start=1):
        try:
            parsed.append(parse(json.loads(line)))
        except Exception as error:  # TVM's parsers raise types of their own
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise RecordError(f"{path}, line {number}: not {what} ({reason}); {advice}") from error
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
    for number, line in enumerate(_lines(complete), start=1):
        if not _is_json(line):
            raise RecordError(f"{path}, line {number}: not JSON; {_ADVICE}")
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
        raise unwritable(path, error) from error


def append(path: Path, *lines: Any) -> None:
    """Append lines, which have reached the disk on return, behind a tail that is repaired.

    Raises
    ------
    RecordError
        It cannot be written: no right, no room.
    """
    if not _ends_well(path):
        repair(path)
    _append(path, encode(lines))


def inode(path: Path) -> int | None:
    """Return what tells a file from another one in its place; None if there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def encode(lines: Iterable[Any]) -> bytes:
    """Return what a file of these lines holds."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _content(path: Path) -> bytes:
    if not path.exists():
        return b""
    with paths.open_regular(path, RecordError, "move it away to start afresh") as file:
        return file.read()


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):  # nested deeper than any line of ours
        return False
    return True


def _append(path: Path, content: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from error


def _ends_well(path: Path) -> bool:
    """Whether a file ends with a whole line; another session may have been cut short."""
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return True
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
    except OSError:  # there is none, or writing says what is wrong
        return True


def _lines(content: bytes) -> list[bytes]:
    # Not splitlines, which would also end a line at a carriage return.
    return content.removesuffix(b"\n").split(b"\n") if content else []


def unwritable(path: Path, error: OSError) -> RecordError:
    """Return the error that says that a file of records cannot be written."""
    return RecordError(
        f"cannot write {path}: {error.strerror}; make room or give the right to write, and run the "
        "same command again: nothing that was measured before is lost"
    )

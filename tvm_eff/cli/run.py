"""What all command lines share: how they end."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tvm_eff import failures
from tvm_eff.cli import interrupt
from tvm_eff.errors import Error, not_installed
from tvm_eff.paths import short

Main = Callable[[list[str] | None], int | None]

USER_ERROR = 2
_WRONG_PATHS = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)
_MOST_SHOWN = 4000

INTERRUPTED = 128
"""Exit codes above it are 128 and the number of the signal that ended the work."""


def run(main: Main, argv: list[str] | None = None) -> int:
    """Run a command line and return its exit code.

    An :class:`~tvm_eff.errors.Error` becomes one message and exit code 2, as with
    the errors of argparse itself. Anything else that is raised is a defect of ours or of
    TVM's: its traceback goes to a file, which the one message names, and the exit code is 1.

    Parameters
    ----------
    main
        Takes the arguments, those of the process if None; returns nothing or an exit code.
    argv
        The arguments.
    """
    interrupt.remember()
    try:
        with _rare_collections():
            code = main(argv)
        sys.stdout.flush()
    except Error as error:
        return _fail(f"error: {error}", USER_ERROR)
    except KeyboardInterrupt:
        return _fail("interrupted; run the same command again to go on", interrupt.exit_code())
    except BrokenPipeError:
        # The reader, such as head, has seen enough. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno in _WRONG_PATHS and error.filename is not None:
            name = short(Path(os.fsdecode(error.filename)))
            return _fail(f"error: {name}: {error.strerror}; name another path", USER_ERROR)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _defect(error)
        place = f" for {error.filename}" if error.filename else ""
        return _fail(f"error: no room on the disk{place}; free some and run it again", USER_ERROR)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "tvm_eff":
            return _defect(error)
        return _fail(f"error: {not_installed(error)}", USER_ERROR)
    except Exception as error:
        return _defect(error)
    finally:
        interrupt.forget()
    return code or 0


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python collect garbage a hundredth as often.

    PyTorch and TVM are half a million objects that stay, and each full collection visits all.
    """
    before = gc.get_threshold()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def leave(code: int) -> NoReturn:
    """End the process with an exit code; at once if it was interrupted.

    An interrupt may leave a thread of the builders' pool waiting for ever, and Python
    waits for its threads. What was measured is on the disk, and processes are stopped.
    """
    if code <= INTERRUPTED:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _defect(error: Exception) -> int:
    name = type(error).__name__
    return _fail(f"internal error: {name} in {failures.place(error)}; {failures.advice(error)}", 1)


def _fail(message: str, code: int) -> int:
    if len(message) > _MOST_SHOWN:  # something that was typed may be no name at all
        message = f"{message[: _MOST_SHOWN // 2]} ... {message[-_MOST_SHOWN // 2 :]}"
    print(message, file=sys.stderr)
    return code

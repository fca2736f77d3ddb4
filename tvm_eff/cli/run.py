"""What all command lines share: how they end."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from tvm_eff.cli import interrupt
from tvm_eff.errors import Error

Main = Callable[[list[str] | None], int | None]

USER_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells say it


def run(main: Main, argv: list[str] | None = None) -> int:
    """Run a command line and return its exit code.

    An :class:`~tvm_eff.errors.Error` becomes one message and exit code 2, as with
    the errors of argparse itself. Anything else that is raised is a defect of ours
    and keeps its traceback.

    Parameters
    ----------
    main
        Takes the arguments, those of the process if None; returns nothing or an exit code.
    argv
        The arguments.
    """
    interrupt.remember()
    try:
        code = main(argv)
        sys.stdout.flush()
    except Error as error:
        return _fail(f"error: {error}", USER_ERROR)
    except KeyboardInterrupt:
        return _fail("interrupted; run the same command again to go on", INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as head, has seen enough. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f" for {error.filename}" if error.filename else ""
        return _fail(f"error: no room on the disk{place}; free some and run it again", USER_ERROR)
    finally:
        interrupt.forget()
    return code or 0


def leave(code: int) -> NoReturn:
    """End the process with an exit code; at once if it was interrupted.

    An interrupt may leave a thread of the builders' pool waiting for ever, and Python
    waits for its threads. What was measured is on the disk, and processes are stopped.
    """
    if code != INTERRUPTED:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code

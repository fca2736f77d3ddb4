"""Warm builders: processes that have imported TVM once and build candidate after candidate."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import current_process, forkserver, resource_tracker
from types import TracebackType
from typing import Any

from pebble import ProcessExpired, ProcessPool
from typing_extensions import Self

from tvm_eff.errors import BuildError, Error, InterruptedBuildError, SetupError
from tvm_eff.scratch import semaphore_prefix
from tvm_eff.tune.worker import prepare

# LLVM and TVM keep some memory of every build: a process is replaced after so many.
BUILDS_PER_PROCESS = 500

_TROUBLES = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}
)

MAX_TEMPORARY_PATH = 66
"""Bytes of the temporary folder's path: a socket's, in a folder of multiprocessing's, may
have 107, and macOS' 103."""


@dataclass(frozen=True)
class Job:
    """Work under way in a builder process, and how many seconds it may take."""

    future: Future[Any]
    timeout: float

    def wait(self) -> None:
        """Wait until it is done, well or not."""
        self.future.exception()

    def result(self) -> Any:
        """Wait for it and return what it returned.

        Raises
        ------
        BuildError
            It failed, crashed or took too long; the message says which.
        SetupError
            This machine has no room for it.
        """
        try:
            return self.future.result()
        except TimeoutError as error:
            raise InterruptedBuildError(f"the build took longer than {self.timeout:g} s") from error
        except ProcessExpired as error:
            raise InterruptedBuildError(
                f"the build crashed (exit code {error.exitcode})"
            ) from error
        except MemoryError as error:
            raise BuildError("the build ran out of memory") from error
        except Error as error:
            _require_environment(error)
            raise BuildError(str(error)) from error
        except Exception as error:  # whatever TVM raised in the worker
            _require_environment(error)
            raise BuildError(f"{type(error).__name__}: {error}") from error


def _require_environment(error: Exception) -> None:
    """Raise what is this machine's trouble and no candidate's: no room, no right, no files."""
    number = error.errno if isinstance(error, OSError) else None
    texts = {os.strerror(each): each for each in _TROUBLES}
    if number not in _TROUBLES:
        number = next((each for text, each in texts.items() if text in str(error)), None)
    if number is None:
        return
    raise SetupError(
        f"candidates cannot be built: {os.strerror(number)} in the temporary folder "
        f"{tempfile.gettempdir()}, or for its processes; make room there, or set TMPDIR to another "
        "folder, and run the same command again: it goes on where it stopped"
    ) from error


def preload() -> None:
    """Begin to import, in the process that workers are forked from, what they need.

    It goes on beside what this process does next. Without it, the first job waits for it.
    """
    _context()
    # This unblocks the signal, so that it has to be done before.
    resource_tracker.ensure_running()
    # Ctrl-C is for this process, which ends that one; the import would print a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _context() -> Any:
    """Workers are forked from a server that has imported TVM and started no thread."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > MAX_TEMPORARY_PATH:
        raise SetupError(
            f"the temporary folder {folder} has too long a path for the sockets of builder "
            "processes; set TMPDIR to a folder with a shorter one, such as /tmp"
        )
    # So that the next session knows whose they are if this one is killed.
    current_process()._config["semprefix"] = semaphore_prefix(os.getpid())  # type: ignore[attr-defined]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tvm_eff.worker_preload"])
    return context


class Builder:
    """A pool of builder processes; use it with ``with``.

    A job that crashes or outlives its timeout takes its process with it, which is
    replaced; the other jobs go on.

    Parameters
    ----------
    workers
        How many processes; the number of usable cores by default.
    timeout
        Seconds a job may take.
    """

    def __init__(self, workers: int | None = None, timeout: float = 60.0) -> None:
        self._workers = workers or len(os.sched_getaffinity(0))
        self._timeout = timeout
        self._pool: ProcessPool | None = None

    def __enter__(self) -> Self:
        self._pool = ProcessPool(
            max_workers=self._workers,
            max_tasks=BUILDS_PER_PROCESS,
            initializer=prepare,
            context=_context(),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        self._pool.stop()
        self._pool.join()
        self._pool = None

    def submit(self, job: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> Job:
        """Start `job` in a worker process; it may take `timeout` seconds, or the builder's."""
        assert self._pool is not None, "use the builder with 'with'"
        limit = self._timeout if timeout is None else timeout
        return Job(self._pool.schedule(job, args=list(arguments), timeout=limit), limit)

"""An engine's process as the benchmark sees it: asked, stopped between its turns, killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from engines.base import Engine, Job

BENCHMARKS = Path(__file__).resolve().parent.parent


class EngineError(Exception):
    """An engine cannot do what it was asked; the message is the reason."""


class EngineProcess:
    """A process of its own for one engine.

    Between its turns the whole process group is stopped: a thread pool that spins
    while it has nothing to do would take the cores from the engine being timed.

    Parameters
    ----------
    python
        The Python to run it with.
    action
        ``convert`` or ``serve``.
    job
        What to run.
    log
        The file that its error output is appended to.
    timeout
        How long one answer may take, in seconds.
    """

    def __init__(self, python: Path, action: str, job: Job, log: Path, timeout: float) -> None:
        self._timeout = timeout
        self._log = log
        threads = str(job.threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")
        # Engines keep statistics and settings in the user's home.
        own = {"HF_HUB_OFFLINE": "1", "HOME": str(log.parent.resolve())}
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "engines.worker", action],
                cwd=BENCHMARKS,
                env=os.environ | dict.fromkeys(names, threads) | own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        try:
            self.versions: dict[str, str] = self._ask(job.as_json())["versions"]
        except BaseException:
            self.kill()
            raise

    def ask(self, **question: Any) -> dict[str, Any]:
        """Ask it something and return its answer.

        Raises
        ------
        EngineError
            It died, or did not answer in time.
        """
        return self._ask(json.dumps(question))

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Let it run, and stop it again."""
        self.resume()
        yield
        self.stop()

    def resume(self) -> None:
        """Let it run."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop all its threads, and return when the last of them has stopped."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def cpu_seconds(self) -> float:
        """Return the processor time it has taken so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def kill(self) -> None:
        """End it and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise EngineError(self._obituary()) from error
        readable, _, _ = select.select([self._process.stdout], [], [], self._timeout)
        if not readable:
            raise EngineError(f"no answer within {self._timeout:.0f} s")
        answer = self._process.stdout.readline()
        if not answer:
            raise EngineError(self._obituary())
        values: dict[str, Any] = json.loads(answer)
        if "failure" in values:
            raise EngineError(values["failure"])
        return values

    def _obituary(self) -> str:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return f"its process ended with {how}" + (f": {lines[-1][:200]}" if lines else "")


def convert(python: Path, job: Job, log: Path, timeout: float) -> None:
    """Have an engine's model converted in a process of its own.

    What converters import, with threads of their own, is then not there when the
    engine is timed.

    Raises
    ------
    EngineError
        It cannot be converted.
    """
    EngineProcess(python, "convert", job, log, timeout).kill()


def python_of(engine: Engine, peers: Path) -> Path:
    """Return the Python an engine runs with."""
    return Path(sys.executable) if engine.ours else peers

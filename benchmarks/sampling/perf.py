"""Sample a library that runs in another process, with Linux's perf."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_eff.errors import ExecutionError, SetupError

FREQUENCY = 997
"""Samples a second of each processor: with 10,000 an inference took a sixth longer."""

_LOOP = Path(__file__).with_name("loop.py")
_MAPPED = re.compile(r"\[0x([0-9a-f]+)\(0x[0-9a-f]+\) @ (0x[0-9a-f]+|0) .*\]: r-xp (.+)$")


@dataclass(frozen=True)
class Samples:
    """Where the processor was.

    Attributes
    ----------
    offsets
        How often it was at each offset in the library's file.
    beside
        How often it was in no code of the library.
    milliseconds
        What an inference took meanwhile.
    """

    offsets: Counter[int]
    beside: int
    milliseconds: float


def sample(
    library: Path, inputs: Path, processors: Sequence[int], seconds: float, folder: Path
) -> Samples:
    """Run a library on some processors and sample it.

    Raises
    ------
    SetupError
        perf is not installed, or cannot sample here.
    ExecutionError
        The library does not run.
    """
    if shutil.which("perf") is None:
        raise SetupError("perf is not installed; install it, on Debian: apt install linux-perf")
    environment = os.environ | {"TVM_NUM_THREADS": str(len(processors))}
    with subprocess.Popen(
        [sys.executable, str(_LOOP), str(library), str(inputs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, processors),
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        recorder = _record(process.pid, folder / "perf.data", seconds)
        output, _ = process.communicate(f"{seconds}\n")
        _, said = recorder.communicate()
    if process.returncode:
        raise ExecutionError(f"{library} ran into an error; what it said is above")
    if recorder.returncode:
        raise SetupError(f"perf cannot sample here: {said.strip()}")
    return _read(folder / "perf.data", library, float(output))


def _record(pid: int, data: Path, seconds: float) -> subprocess.Popen[str]:
    # Without the cache, which would keep a copy of every program seen in the user's home.
    command = ["perf", "record", "-q", "--no-buildid-cache", "-e", "cpu-clock"]
    command += ["-F", str(FREQUENCY), "-o", str(data), "-p", str(pid), "--", "sleep", str(seconds)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _read(data: Path, library: Path, milliseconds: float) -> Samples:
    command = ["perf", "script", "-i", str(data), "-F", "ip,dso", "--show-mmap-events"]
    start, offset = None, 0
    found: Counter[int] = Counter()
    beside = 0
    for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
        if mapped := _MAPPED.search(line):
            if mapped[3] == str(library):
                start, offset = int(mapped[1], 16), int(mapped[2], 16)
        elif "PERF_RECORD" in line or not line.strip():
            continue
        elif line.rstrip().endswith(f"({library})"):
            assert start is not None, "a library is mapped before it runs"
            found[int(line.split()[0], 16) - start + offset] += 1
        else:
            beside += 1
    if not found:
        raise SetupError(f"perf took no samples in {library}")
    return Samples(found, beside, milliseconds)

"""One inference in a process of its own: ``python -m engines.once`` in the folder benchmarks.

It reads a :class:`~engines.base.Job` as one line, loads the model, runs it once, and prints the
time of the clock that all processes share, and the most memory that it had, in MB.
"""

from __future__ import annotations

import importlib
import os
import sys
import time

import numpy as np

from engines import usage
from engines.base import Job


def main() -> None:
    """Load, run, and say when that was done."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # engines print where they like
    job = Job.from_json(sys.stdin.readline())
    os.sched_setaffinity(0, job.cores)
    call = importlib.import_module(job.module).load(job)
    call(np.load(job.input))
    print(time.monotonic(), usage.peak_mb(), file=told, flush=True)


if __name__ == "__main__":
    main()

"""Runs a library over and over: what is sampled. Says "ready" once it is warm.

python loop.py LIBRARY INPUTS.npz, with TVM_NUM_THREADS and the processors as they shall be.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import tvm
from tvm.runtime.vm import VirtualMachine

WARM_UP = 20


def main(library: Path, inputs: Path) -> None:
    """Run for as many seconds as standard input says, then print an inference's milliseconds."""
    with np.load(inputs) as arrays:
        tensors = [tvm.runtime.tensor(arrays[name]) for name in arrays.files]
    run = VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())["main"]
    for _ in range(WARM_UP):
        run(*tensors)
    print("ready", flush=True)
    seconds, end = [], time.perf_counter() + float(sys.stdin.readline())
    while time.perf_counter() < end:
        before = time.perf_counter()
        run(*tensors)
        seconds.append(time.perf_counter() - before)
    print(statistics.median(seconds) * 1e3, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

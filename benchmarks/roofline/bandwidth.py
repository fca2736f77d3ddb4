"""How many bytes a second the cores of this machine read, from which distance."""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvm_eff.codegen import toolchain

# Eight accumulators of one cache line each: additions wait for nothing but loads.
_LINES, _LINE = 8, 64
_SOURCE = f"""
typedef float vector __attribute__((vector_size({_LINE}), aligned({_LINE})));
void read_all(const vector *data, long lines, long times, float *out) {{
    vector sum[{_LINES}] = {{{{0}}}};
    for (long pass = 0; pass < times; pass++)
        for (long at = 0; at < lines; at += {_LINES}) {{
            #pragma unroll
            for (int i = 0; i < {_LINES}; i++) sum[i] += data[at + i];
        }}
    for (int i = 1; i < {_LINES}; i++) sum[0] += sum[i];
    out[0] = sum[0][0];
}}
"""
_FLAGS = ("-O3", "-mcpu=native", "-mprefer-vector-width=512", "-fno-sanitize=all")
_BYTES = 256e6
_REPEATS = 7


class Bandwidth:
    """Measures bytes a second that are read, all cores together.

    Raises
    ------
    tvm_eff.errors.BuildError, tvm_eff.errors.SetupError
        The loop cannot be compiled.
    """

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "read.c", Path(folder) / "read.so"
            source.write_text(_SOURCE)
            toolchain.run(["cc", "-shared", "-fPIC", *_FLAGS, source, "-o", library])
            self._read = ctypes.CDLL(str(library)).read_all
        self._read.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_void_p)
        self._read.restype = None

    def measure(self, cores: Sequence[int], size: int) -> float:
        """Return the best of several tries, each core reading `size` bytes of its own.

        Parameters
        ----------
        cores
            The cores that read together.
        size
            Bytes of each core, which it reads again and again: what fits into a cache
            comes from there.
        """
        lines = max(_LINES, size // _LINE // _LINES * _LINES)
        times = max(1, int(_BYTES / (lines * _LINE)))
        data = {core: _aligned(lines * _LINE) for core in cores}
        best = min(self._try(data, lines, times) for _ in range(_REPEATS))
        return lines * _LINE * times * len(cores) / best

    def _try(self, data: dict[int, np.ndarray], lines: int, times: int) -> float:
        """Return the seconds of the slowest core."""
        together = threading.Barrier(len(data))
        taken: list[float] = []

        def work(core: int, array: np.ndarray) -> None:
            os.sched_setaffinity(0, {core})  # of this thread alone
            out = ctypes.c_float()
            address = array.ctypes.data
            self._read(address, lines, 1, ctypes.addressof(out))
            together.wait()
            started = time.perf_counter()
            self._read(address, lines, times, ctypes.addressof(out))
            taken.append(time.perf_counter() - started)

        threads = [threading.Thread(target=work, args=each) for each in data.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(taken)


def _aligned(size: int) -> np.ndarray:
    whole = np.ones(size + _LINE, "uint8")
    skip = -whole.ctypes.data % _LINE
    return whole[skip : skip + size]

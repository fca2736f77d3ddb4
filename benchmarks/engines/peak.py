"""The machine's peak of float32 multiply-adds, measured with nothing but registers."""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tvm_eff.codegen import toolchain

# Twelve chains hide the latency of two FMA units (4 or 5 cycles each), and with the
# two constants they fit into sixteen registers.
_CHAINS = 12
_SOURCE = f"""
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float vector __attribute__((vector_size(BYTES)));
const int lanes = BYTES / 4;
void multiply_add(long steps, float scale, float *out) {{
    vector sum[{_CHAINS}], factor, addend;
    for (int j = 0; j < BYTES / 4; j++) {{
        factor[j] = scale;
        addend[j] = 1 - scale;
        for (int i = 0; i < {_CHAINS}; i++) sum[i][j] = i + j;
    }}
    for (long step = 0; step < steps; step++) {{
        #pragma unroll
        for (int i = 0; i < {_CHAINS}; i++) sum[i] = sum[i] * factor + addend;
    }}
    for (int i = 1; i < {_CHAINS}; i++) sum[0] += sum[i];
    for (int j = 0; j < BYTES / 4; j++) out[j] = sum[0][j];
}}
"""
_FLAGS = ("-O3", "-mcpu=native", "-ffp-contract=fast", "-mprefer-vector-width=512")
_SECONDS = 0.005
_REPEATS = 40


class Peak:
    """Measures floating-point operations a second; a multiply-add is two of them.

    Raises
    ------
    tvm_eff.errors.BuildError, tvm_eff.errors.SetupError
        The loop cannot be compiled.
    """

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "peak.c", Path(folder) / "peak.so"
            source.write_text(_SOURCE)
            toolchain.run(["cc", "-shared", "-fPIC", *_FLAGS, source, "-o", library])
            loaded = ctypes.CDLL(str(library))
        self._lanes = ctypes.c_int.in_dll(loaded, "lanes").value
        self._loop = loaded.multiply_add
        self._loop.argtypes = (ctypes.c_long, ctypes.c_float, ctypes.c_void_p)
        self._loop.restype = None

    def measure(self, cores: Sequence[int]) -> float:
        """Return the best of several tries on all of `cores` together."""
        steps = 1_000_000
        while (taken := self._try(cores, steps)) < _SECONDS:
            steps = int(steps * max(2.0, 1.1 * _SECONDS / taken))
        best = min(self._try(cores, steps) for _ in range(_REPEATS))
        return 2.0 * self._lanes * _CHAINS * steps * len(cores) / best

    def _try(self, cores: Sequence[int], steps: int) -> float:
        """Return the seconds of the slowest core."""
        together = threading.Barrier(len(cores))
        taken: list[float] = []

        def work(core: int) -> None:
            os.sched_setaffinity(0, {core})  # of this thread alone
            out = (ctypes.c_float * self._lanes)()
            together.wait()
            started = time.perf_counter()
            self._loop(steps, 0.999, ctypes.addressof(out))
            taken.append(time.perf_counter() - started)

        _run_all([_bind(work, core) for core in cores])
        return max(taken)


def _bind(work: Callable[[int], None], core: int) -> threading.Thread:
    return threading.Thread(target=work, args=(core,))


def _run_all(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

"""The timer: by the device's clock, for kernels alone."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from made_modules import MadeKernel, load, on_device

Run = Callable[..., Any]

SOURCE = """
__kernel void spin(__global float* x, int n) {
  float sum = x[get_global_id(0)];
  for (int i = 0; i < n; ++i) sum = sum * 0.999f + 1.0f;
  x[get_global_id(0)] = sum;
}"""


def _spin(number: int, rounds: int) -> tuple[float, float]:
    """Return what the timer says a call takes, and what it can be at most, in seconds."""
    x = on_device(np.zeros(4, "float32"), number)
    made = load(SOURCE, MadeKernel("spin", ("handle", "int32")))
    tvm.get_global_func("__tvm_set_device")(4, number)
    evaluate = made.time_evaluator("spin", tvm.device("opencl", number), number=3, repeat=2)
    started = time.perf_counter()
    result = evaluate(ctypes.c_void_p(x.data_ptr()), rounds, 1, 4)
    return min(result.results), time.perf_counter() - started


def test_longer_kernels_take_longer(run: Run, number: int) -> None:
    short, _ = run(_spin, number, 10_000)
    long, most = run(_spin, number, 2_000_000)
    assert 0 < short < long / 20
    # Seven calls: the first one warms up.
    assert 6 * long < most


def _copy(source: Any, target: Any) -> None:
    source.copyto(target)


def _copies_only(number: int) -> float:
    device = tvm.device("opencl", number)
    first, second = (tvm.runtime.empty((1 << 16,), "float32", device) for _ in range(2))
    tvm.register_global_func("tvm_eff_test.copy", _copy, override=True)
    evaluator = tvm.get_global_func("runtime.RPCTimeEvaluator")(
        None, "tvm_eff_test.copy", 4, number, 2, 1, 0, 100, 0, 1, 0, ""
    )
    return float(np.frombuffer(evaluator(first, second), "float64")[0])


def test_without_kernels(run: Run, number: int) -> None:
    assert run(_copies_only, number) > 0

"""A small network's kernel, compiled by TVM for Mali."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tvm
from tvm import te

# TVM takes the limits of an OpenCL device from nowhere but here.
MALI = {
    "kind": "opencl",
    "device": "mali",
    "max_num_threads": 256,
    "max_threads_per_block": 256,
    "thread_warp_size": 1,
    "max_shared_memory_per_block": 32768,
}


def product(path: Path, size: int = 64) -> Path:
    """Write a library whose ``main`` multiplies two square matrices and doubles the product."""
    from tvm.s_tir import dlight

    a, b = (te.placeholder((size, size), name=name) for name in "ab")
    k = te.reduce_axis((0, size), name="k")
    c = te.compute((size, size), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    d = te.compute((size, size), lambda i, j: c[i, j] * 2.0, name="d")
    function = te.create_prim_func([a, b, d]).with_attr("global_symbol", "main")
    target = tvm.target.Target(MALI, host={"kind": "llvm"})
    with target:
        module = dlight.ApplyDefaultSchedule(dlight.gpu.Fallback())(
            tvm.IRModule({"main": function})
        )
    tvm.compile(module, target=target).export_library(str(path))
    return path


def operands(size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return two matrices of small integers, whose product is exact."""
    generator = np.random.default_rng(0)
    first, second = generator.integers(-4, 5, (2, size, size))
    return first.astype("float32"), second.astype("float32")

"""Kernels accept arguments at any element-aligned address."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te
from tvm.s_tir import Schedule

from tvm_eff import targets
from tvm_eff.codegen import build_kernel, compile_kernel
from tvm_eff.targets import FLOAT32_BYTES

ROWS, COLUMNS = 8, 64
MAX_OFFSET = 64


def doubling(lanes: int) -> Schedule:
    x = te.placeholder((ROWS, COLUMNS), name="x")
    y = te.compute((ROWS, COLUMNS), lambda i, j: x[i, j] * 2.0, name="y")
    sch = Schedule(te.create_prim_func([x, y]))
    row, column = sch.get_loops(sch.get_sblock("y"))
    sch.vectorize(sch.split(column, [None, lanes])[1])
    sch.parallel(row)
    return sch


@pytest.mark.parametrize("name", ["host", "rasp4", "rasp3-armv7"])
def test_vectors_are_assumed_to_have_element_alignment(name: str) -> None:
    target = targets.load(name)
    code = compile_kernel(doubling(target.hardware.lanes), target).inspect_source("ll")
    found = re.findall(r"(?:load|store) <\d+ x float>.* align (\d+)", code)
    assert set(found) == {str(FLOAT32_BYTES)}


def test_any_address(tmp_path: Path) -> None:
    target = targets.load("host")
    build_kernel(doubling(target.hardware.lanes), target, tmp_path / "kernel.so")
    double = tvm.runtime.load_module(str(tmp_path / "kernel.so"))["main"]
    memory = np.zeros(ROWS * COLUMNS + MAX_OFFSET, "float32")
    values = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype("float32")
    for start in range(MAX_OFFSET // FLOAT32_BYTES):
        view = memory[start : start + values.size].reshape(values.shape)
        view[:] = values
        result = tvm.runtime.tensor(np.zeros_like(values))
        # TVM's own from_dlpack rejects what is not 64-byte aligned.
        double(tvm_ffi.from_dlpack(view), result)
        np.testing.assert_array_equal(result.numpy(), 2 * values)

"""Small buffers are on the stack: kernels do not allocate them from the workspace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from kernels import HOST
from tvm import te

from tvm_eff.codegen import build_kernel
from tvm_eff.passes.tir.stack_allocation import MAX_BYTES
from tvm_eff.targets import FLOAT32_BYTES

WORKSPACE_CALL = b"TVMBackendAllocWorkspace"


def built(elements: int, folder: Path) -> Path:
    """Build a kernel that needs a buffer of `elements` floats."""
    x = te.placeholder((elements,), name="x")
    doubled = te.compute((elements,), lambda i: x[i] * 2.0, name="doubled")
    reversed_ = te.compute((elements,), lambda i: doubled[elements - 1 - i], name="reversed")
    sch = tvm.s_tir.Schedule(te.create_prim_func([x, reversed_]))
    library = folder / "kernel.so"
    build_kernel(sch, HOST, library)
    return library


@pytest.mark.parametrize("elements", [8, 1024 // FLOAT32_BYTES + 1, MAX_BYTES // FLOAT32_BYTES])
def test_a_small_buffer_is_on_the_stack(elements: int, tmp_path: Path) -> None:
    library = built(elements, tmp_path)
    assert WORKSPACE_CALL not in library.read_bytes()
    values = np.arange(elements, dtype="float32")
    result = tvm.runtime.tensor(np.zeros(elements, "float32"))
    tvm.runtime.load_module(str(library))["main"](tvm.runtime.tensor(values), result)
    np.testing.assert_array_equal(result.numpy(), 2 * values[::-1])


def test_a_large_one_is_not(tmp_path: Path) -> None:
    library = built(MAX_BYTES // FLOAT32_BYTES + 1, tmp_path)
    assert WORKSPACE_CALL in library.read_bytes()

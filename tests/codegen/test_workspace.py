"""What kernels take from the runtime is known before they run."""

from __future__ import annotations

from pathlib import Path

import tvm
from tvm.script import tirx as T

from tvm_eff import targets
from tvm_eff.codegen import native
from tvm_eff.codegen.workspace import Workspace

BIG, SMALL = 16 * 1024, 64


@T.prim_func
def kernel(
    x: T.Buffer((BIG,), "float32"),  # type: ignore[valid-type]  # TVMScript's own notation
    y: T.Buffer((4 * BIG,), "float32"),  # type: ignore[valid-type]
) -> None:
    T.func_attr({"global_symbol": "kernel", "tirx.noalias": True})
    shared = T.alloc_buffer((BIG,), "float32")
    for i in range(BIG):
        shared[i] = x[i] * T.float32(2)
    for i in T.parallel(4):
        own = T.alloc_buffer((2 * BIG,), "float32")
        few = T.alloc_buffer((SMALL,), "float32")
        for j in range(BIG):
            few[j % SMALL] = shared[j]
            own[2 * j] = few[j % SMALL]
            own[2 * j + 1] = few[j % SMALL]
        for j in range(BIG):
            y[i * BIG + j] = own[2 * j] + own[2 * BIG - 1 - 2 * j]


def test_temporaries_outside_and_inside_parallel_loops(tmp_path: Path) -> None:
    module = tvm.IRModule({"kernel": kernel})
    objects, found = native.compile_kernels(module, targets.load("host"), tmp_path)
    assert found == Workspace(shared=4 * BIG, each_thread=8 * BIG)
    assert [each.is_file() for each in objects] == [True]


def test_two_kernels_need_what_either_needs() -> None:
    assert Workspace(1, 5) | Workspace(3, 2) == Workspace(3, 5)

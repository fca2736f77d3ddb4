"""Predicates of sums in registers are removed where that changes no result, and only there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from tvm_eff import targets
from tvm_eff.codegen import build_kernel
from tvm_eff.device import LocalOpenCLDevice
from tvm_eff.passes.pipeline import OPENCL_PIPELINE
from tvm_eff.passes.tir import predicate_removal
from tvm_eff.tensors import TensorSpec

HERE = targets.launched_from_here(targets.load("rk3399-mali"))

ROWS, DEPTH = 10, 6


def product(schedule: Callable[[Schedule], None]) -> Schedule:
    """Return a scheduled product of a matrix, read into registers, and a vector."""
    a = te.placeholder((ROWS, DEPTH), name="a")
    b = te.placeholder((DEPTH,), name="b")
    k = te.reduce_axis((0, DEPTH), name="k")
    c = te.compute((ROWS,), lambda i: te.sum(a[i, k] * b[k], axis=k), name="c")
    d = te.compute((ROWS,), lambda i: c[i] + 1.0, name="d")
    sch = Schedule(te.create_prim_func([a, b, d]).with_attr("global_symbol", "main"))
    schedule(sch)
    return sch


def partial_tile(sch: Schedule) -> None:
    """Tiles of four rows, the last of two."""
    main, last = sch.get_sblock("c"), sch.get_sblock("d")
    copy = sch.cache_read(main, 0, "local")
    sch.set_scope(main, 0, "local")
    i, k = sch.get_loops(main)
    outer, inner = sch.split(i, [None, 4])
    sch.reorder(outer, k, inner)
    sch.bind(outer, "threadIdx.x")
    sch.compute_at(copy, k)
    sch.reverse_compute_at(last, outer)
    for block in (copy, main, last):
        sch.unroll(sch.get_loops(block)[-1])
    sch.decompose_reduction(main, k)


def partial_sum(sch: Schedule) -> None:
    """Steps of four terms, the last of two: its predicates must stay."""
    main, last = sch.get_sblock("c"), sch.get_sblock("d")
    copy = sch.cache_read(main, 0, "local")
    sch.set_scope(main, 0, "local")
    i, k = sch.get_loops(main)
    outer, inner = sch.split(k, [None, 4])
    sch.bind(i, "threadIdx.x")
    sch.compute_at(copy, outer)
    sch.reverse_compute_at(last, i)
    sch.unroll(inner)
    sch.unroll(sch.get_loops(copy)[-1])
    sch.decompose_reduction(main, outer)


def source_of(sch: Schedule, pipeline: str) -> str:
    """Return the OpenCL C of a schedule."""
    built = tvm.tirx.build(sch.mod, target=HERE.tvm_target(), pipeline=pipeline)
    return next(each for each in built.imports if each.kind == "opencl").inspect_source()


def test_partial_tile_keeps_the_conditions_of_loads_and_stores() -> None:
    sch = product(partial_tile)
    plain, removed = (source_of(sch, each).count("if (") for each in ("default", OPENCL_PIPELINE))
    # Two rows are predicated: initializing and accumulating their sums, loads, and stores.
    assert plain - removed == 4
    assert removed == 4


def test_a_sum_that_is_only_partly_conditional_is_left_alone() -> None:
    sch = product(partial_sum)
    assert source_of(sch, OPENCL_PIPELINE) == source_of(sch, "default")


@pytest.mark.parametrize("schedule", [partial_tile, partial_sum])
def test_results_are_the_same(schedule: Callable[[Schedule], None], tmp_path: Path) -> None:
    library = tmp_path / "product.so"
    build_kernel(product(schedule), HERE, library)
    generator = np.random.default_rng(0)
    a, b = (
        generator.integers(-4, 5, shape).astype("float32") for shape in ((ROWS, DEPTH), (DEPTH,))
    )
    with LocalOpenCLDevice() as device:
        (result,), _ = device.call(library, "main", [a, b], [TensorSpec((ROWS,), "float32")])
    assert (result == a @ b + 1).all()


def test_a_load_that_the_condition_protects_stays_under_it() -> None:
    # A sum whose second factor is loaded at an index that the predicate protects.
    def schedule(sch: Schedule) -> None:
        main, last = sch.get_sblock("c"), sch.get_sblock("d")
        sch.set_scope(main, 0, "local")
        i, k = sch.get_loops(main)
        outer, inner = sch.split(i, [None, 4])
        sch.reorder(outer, k, inner)
        sch.bind(outer, "threadIdx.x")
        sch.reverse_compute_at(last, outer)
        for block in (main, last):
            sch.unroll(sch.get_loops(block)[-1])
        sch.decompose_reduction(main, k)

    sch = product(schedule)
    plain, removed = (source_of(sch, each).count("if (") for each in ("default", OPENCL_PIPELINE))
    # Only the initialization of the two sums needs no predicate.
    assert plain - removed == 2


def test_functions_without_registers_are_left_alone() -> None:
    a = te.placeholder((ROWS,), name="a")
    func = te.create_prim_func([a, te.compute((ROWS,), lambda i: a[i] + 1.0)])
    mod = tvm.IRModule({"main": func})
    assert isinstance(func, tirx.PrimFunc)
    tvm.ir.assert_structural_equal(predicate_removal.remove_predicates(mod)["main"], func)

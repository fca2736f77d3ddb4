"""A vectorized loop that rounds stays vectors, half to even."""

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule

from tvm_eff import targets
from tvm_eff.codegen.compile import compile_kernel
from tvm_eff.passes import pipeline
from tvm_eff.targets import Target


def rounding(lanes: int) -> Schedule:
    values = te.placeholder((8 * lanes,), "float32", "values")
    rounded = te.compute(values.shape, lambda i: tirx.nearbyint(values[i]), "rounded")
    sch = Schedule(tvm.IRModule({"main": te.create_prim_func([values, rounded])}))
    _, vector = sch.split(*sch.get_loops(sch.get_sblock("rounded")), [None, lanes])
    sch.vectorize(vector)
    return sch


def rounded_dtypes(target: Target) -> list[str]:
    """Return the dtypes that are rounded, behind TVM's lowering: LLVM may join scalar ones."""
    found = []

    @tirx.transform.prim_func_pass(opt_level=0)
    def look(func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: object) -> tirx.PrimFunc:
        def call(node: tvm.ir.Call) -> None:
            if str(node.op.name) == "tirx.nearbyint":
                found.append(str(node.ty.dtype))

        tvm_ffi.structural_walk(func.body, [(tvm.ir.Call, call)])
        return func

    with pipeline.behind_lowering([look]):
        compile_kernel(rounding(target.hardware.lanes), target)
    return found


@pytest.mark.parametrize(("name", "dtype"), [("rasp4", "float32x4"), ("rasp5", "float32x4")])
def test_one_operation_for_a_vector(name: str, dtype: str) -> None:
    found = rounded_dtypes(targets.load(name))
    assert found
    assert set(found) == {dtype}


def test_half_to_even() -> None:
    host = targets.load("host")
    built = compile_kernel(rounding(host.hardware.lanes), host)
    values = np.arange(-4 * host.hardware.lanes, 4 * host.hardware.lanes).astype("float32") / 2
    found = tvm.runtime.tensor(np.empty_like(values))
    built["main"](tvm.runtime.tensor(values), found)
    np.testing.assert_array_equal(found.numpy(), np.rint(values))

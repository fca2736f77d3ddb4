"""A vectorized loop that rounds stays vectors, half to even."""

import numpy as np
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from tvm_eff import targets
from tvm_eff.codegen.compile import compile_kernel
from tvm_eff.targets import Target


def rounding(lanes: int) -> Schedule:
    values = te.placeholder((8 * lanes,), "float32", "values")
    rounded = te.compute(values.shape, lambda i: tirx.nearbyint(values[i]), "rounded")
    sch = Schedule(tvm.IRModule({"main": te.create_prim_func([values, rounded])}))
    _, vector = sch.split(*sch.get_loops(sch.get_sblock("rounded")), [None, lanes])
    sch.vectorize(vector)
    return sch


def assembly(target: Target) -> str:
    return str(compile_kernel(rounding(target.hardware.lanes), target).inspect_source("s"))


def test_one_instruction_for_a_vector() -> None:
    found = [line.split() for line in assembly(targets.load("rasp4")).splitlines()]
    rounds = [line for line in found if line and line[0].startswith("frint")]
    assert rounds
    assert all(".4s" in line[1] for line in rounds)


def test_half_to_even() -> None:
    host = targets.load("host")
    built = compile_kernel(rounding(host.hardware.lanes), host)
    values = np.arange(-4 * host.hardware.lanes, 4 * host.hardware.lanes).astype("float32") / 2
    found = tvm.runtime.tensor(np.empty_like(values))
    built["main"](tvm.runtime.tensor(values), found)
    np.testing.assert_array_equal(found.numpy(), np.rint(values))

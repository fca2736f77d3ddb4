"""Generated OpenCL C is read by a compiler here, and what it needs of a device is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import tvm
from gpu_networks import FAMILIES, small

from tvm_eff import targets
from tvm_eff.codegen import opencl_source
from tvm_eff.errors import BuildError

MALI = targets.load("rk3399-mali")

VALID = """
// Function: right_kernel
__kernel void right_kernel(__global float* a) {
  __local float shared[64];
  shared[get_local_id(0)] = exp(vload4(0, a).x);
  barrier(CLK_LOCAL_MEM_FENCE);
  a[get_global_id(0)] = shared[63 - get_local_id(0)];
}
"""
WRONG = """
// Function: wrong_kernel
__kernel void wrong_kernel(__global float* a) {
  a[0] = expp(a[1]);
}
"""
HALF_WITHOUT_EXTENSION = """
// Function: half_kernel
__kernel void half_kernel(__global float* a) { half x = convert_half(a[0]); a[1] = x; }
"""


def test_a_function_that_opencl_does_not_have_is_named_with_its_kernel() -> None:
    with pytest.raises(BuildError, match=r"(?s)not valid in wrong_kernel: .*'expp'") as caught:
        opencl_source.check(VALID + WRONG)
    assert "/tmp" not in str(caught.value)


def test_half_precision_without_its_extension() -> None:
    with pytest.raises(BuildError, match=r"(?s)not valid in half_kernel: .*half"):
        opencl_source.check(HALF_WITHOUT_EXTENSION)


def test_what_is_valid() -> None:
    opencl_source.check(VALID)
    opencl_source.check("")


def test_local_memory_is_that_of_the_kernel_with_most() -> None:
    twice = VALID.replace("float shared[64];", "float4 shared[64]; __local half other[3];")
    assert opencl_source.needs_of(tvm.IRModule(), VALID + WRONG).local_memory == 256
    assert opencl_source.needs_of(tvm.IRModule(), VALID + twice).local_memory == 1030


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family(family: str, dtype: str, tmp_path: Path) -> None:
    library = tmp_path / "model.so"
    needs = small(family, dtype, MALI, library)
    # Each kernel's source is its own, without the declarations of all others.
    source = library.read_bytes()
    assert source.count(b"__kernel void") == source.count(b"// Function: ") > 1
    assert needs.version == "1.2"
    assert needs.extensions == (("cl_khr_fp16",) if dtype == "float16" else ())
    assert MALI.gpu is not None
    assert 1 < needs.work_group <= MALI.gpu.work_group
    assert needs.local_memory <= MALI.gpu.local_memory_kib * 1024

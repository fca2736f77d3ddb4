"""Calls of kernels: what is refused, and that arguments arrive as they were given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from made_modules import MadeKernel, call, load, on_device

Run = Callable[..., Any]

ADD = MadeKernel("add", ("handle", "int32"))
ADD_SOURCE = "__kernel void add(__global int* x, int n) { x[get_global_id(0)] += n; }"


def _add(number: int, blocks: int, threads: int) -> list[int]:
    x = on_device(np.zeros(8, "int32"), number)
    call(load(ADD_SOURCE, ADD), "add", [x, 3], (blocks, threads))
    return x.numpy().tolist()


def test_work_group_too_large(run: Run, number: int) -> None:
    with pytest.raises(RuntimeError, match=r"'add' asks for work-groups of 1000000x1x1") as raised:
        run(_add, number, 1, 1_000_000)
    assert "max_num_threads" in str(raised.value)
    assert run(_add, number, 2, 2) == [3, 3, 3, 3, 0, 0, 0, 0]


def _required_size(number: int) -> None:
    source = ADD_SOURCE.replace("__kernel", "__kernel __attribute__((reqd_work_group_size(4,1,1)))")
    call(load(source, ADD), "add", [on_device(np.zeros(8, "int32"), number), 3], (1, 2))


def test_what_the_driver_refuses(run: Run, number: int) -> None:
    with pytest.raises(RuntimeError, match="CL_INVALID_WORK_GROUP_SIZE"):
        run(_required_size, number)


def _local_memory(number: int, size: int) -> list[float]:
    kernel = MadeKernel("turn", ("handle",), ("threadIdx.x", "tirx.use_dyn_shared_memory"))
    source = """
    __kernel void turn(__global float* x, __local float* all) {
      int i = get_local_id(0);
      all[i] = x[i];
      barrier(CLK_LOCAL_MEM_FENCE);
      x[i] = all[get_local_size(0) - 1 - i];
    }"""
    x = on_device(np.arange(4, dtype="float32"), number)
    call(load(source, kernel), "turn", [x], (4, size))
    return x.numpy().tolist()


def test_dynamic_local_memory(run: Run, number: int) -> None:
    with pytest.raises(RuntimeError, match="bytes of local memory"):
        run(_local_memory, number, 1 << 30)
    assert run(_local_memory, number, 16) == [3, 2, 1, 0]


def _wrong_count() -> None:
    call(load(ADD_SOURCE, ADD), "add", [on_device(np.zeros(8, "int32"))], (1, 1))


def _unknown_tag() -> None:
    load(ADD_SOURCE, MadeKernel("add", ("handle", "int32"), ("vthread",)))


def _unknown_type() -> None:
    load(ADD_SOURCE, MadeKernel("add", ("handle", "float8")))


def _other_device() -> None:
    other = on_device(np.zeros(4, "int32"), 1)
    source = "__kernel void two(__global int* x, __global int* y) { x[0] = y[0]; }"
    made = load(source, MadeKernel("two", ("handle", "handle")))
    call(made, "two", [on_device(np.zeros(4, "int32"), 0), other])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (_wrong_count, "'add' takes 4 arguments and extents; it was called with 3"),
        (_unknown_tag, "'add' asks for 'vthread'"),
        (_unknown_type, "float8"),
        (_other_device, "argument 1 of the kernel 'two' lies on"),
    ],
)
def test_wrong_calls(run: Run, wrong: Callable[[], None], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        run(wrong)


def _scalar(number: int, dtype: str, value: float) -> bytes:
    c_types = {"int8": "char", "int16": "short", "int32": "int", "int64": "long"}
    # The bits of a half are an integer's to a device that cannot compute with it.
    c_types |= {"float16": "ushort", "float32": "float", "float64": "double"}
    c_type = c_types[dtype]
    source = f"__kernel void give(__global {c_type}* x, {c_type} value) {{ x[0] = value; }}"
    x = on_device(np.zeros(1, "uint16" if dtype == "float16" else dtype), number)
    call(load(source, MadeKernel("give", ("handle", dtype))), "give", [x, value])
    return bytes(x.numpy().tobytes())


HALVES = (0.0, -0.0, 1.0, -2.5, 1 / 3, 65504.0, 65519.9, 65520.0, -1e9, 6.1e-5, 6.0975e-5)
TINY_HALVES = (2.0**-24, 2.0**-25, 1.5 * 2.0**-25, 3e-7, float("inf"), 1 + 2.0**-11, 2049.0)


@pytest.mark.parametrize("value", [*HALVES, *TINY_HALVES])
def test_float16_scalars(run: Run, value: float) -> None:
    with np.errstate(over="ignore"):
        assert run(_scalar, 1, "float16", value) == np.float16(value).tobytes()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int8", -7),
        ("int16", -30_000),
        ("int32", -(2**31)),
        ("int64", 2**62),
        ("float32", 0.1),
        ("float64", 0.1),
    ],
)
def test_other_scalars(run: Run, number: int, dtype: str, value: float) -> None:
    assert run(_scalar, number, dtype, value) == np.dtype(dtype).type(value).tobytes()


def _no_elements() -> list[int]:
    return _add(0, 0, 4)


def test_nothing_to_compute(run: Run) -> None:
    assert run(_no_elements) == [0] * 8


def _three_dimensions(number: int) -> list[int]:
    source = """
    __kernel void where(__global int* x) {
      int at = get_global_id(0) + 4 * (get_global_id(1) + 2 * get_global_id(2));
      x[at] = get_group_id(2) * 100 + get_group_id(1) * 10 + get_local_id(0);
    }"""
    tags = ("threadIdx.x", "blockIdx.y", "blockIdx.z")
    x = on_device(np.zeros(16, "int32"), number)
    call(load(source, MadeKernel("where", ("handle",), tags)), "where", [x], (4, 2, 2))
    return x.numpy().tolist()


def test_extents_by_their_tags(run: Run, number: int) -> None:
    expected = [z * 100 + y * 10 + x for z in range(2) for y in range(2) for x in range(4)]
    assert run(_three_dimensions, number) == expected


def _from_threads(number: int) -> list[int]:
    made = load(ADD_SOURCE, ADD)
    tensors = [on_device(np.zeros(8, "int32"), number) for _ in range(4)]

    def one(index: int) -> None:
        for _ in range(200):
            call(made, "add", [tensors[index], index + 1], (1, 8))

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(one, range(4)))
    return [int(tensor.numpy().sum()) for tensor in tensors]


def test_threads_share_a_kernel(run: Run, number: int) -> None:
    assert run(_from_threads, number) == [200 * 8 * n for n in (1, 2, 3, 4)]

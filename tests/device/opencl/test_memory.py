"""Memory of OpenCL devices: limits, and copies in all directions."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from made_modules import on_device

from tvm_eff.device import opencl
from tvm_eff.device.opencl import OpenCLDevice

Run = Callable[..., Any]


def _allocate(number: int, size: int) -> None:
    tvm.runtime.empty((size,), "int8", tvm.device("opencl", number))


def _fill(number: int) -> None:
    device = opencl.devices()[number]
    many = device.global_memory // device.allocation + 1
    kept = [
        tvm.runtime.empty((device.allocation,), "int8", tvm.device("opencl", number))
        for _ in range(many)
    ]
    assert len(kept) < many


def test_more_than_one_allocation_may_have(run: Run, number: int) -> None:
    with pytest.raises(RuntimeError, match="out of memory: 1099511627776 bytes"):
        run(_allocate, number, 1 << 40)
    run(_allocate, number, 1 << 20)


def test_more_than_there_is(run: Run, number: int) -> None:
    with pytest.raises(RuntimeError, match=r"out of memory.*on top of"):
        run(_fill, number)
    run(_allocate, number, 1 << 20)


def test_alignment(run: Run) -> None:
    with pytest.raises(RuntimeError, match="aligns memory at 128 bytes; 256 were asked for"):
        run(_wide_type)


def _wide_type() -> None:
    tvm.runtime.empty((1,), "float32x64", tvm.device("opencl", 1))


def _missing_device() -> None:
    tvm.runtime.empty((1,), "int8", tvm.device("opencl", 7))


def test_missing_device_lists_those_there_are(run: Run) -> None:
    with pytest.raises(RuntimeError, match=r"no device opencl:7; there are:\n *opencl:0 .*Intel"):
        run(_missing_device)


def _parts(number: int) -> list[list[float]]:
    whole = on_device(np.arange(8, dtype="float32"), number)
    part = whole._create_view((3,), relative_byte_offset=8)
    read = part.numpy().tolist()
    part.copyfrom(np.array([10, 11, 12], "float32"))
    other = on_device(np.zeros(4, "float32"), number)
    other._create_view((3,), relative_byte_offset=4).copyfrom(part)
    return [read, whole.numpy().tolist(), other.numpy().tolist()]


def test_copies_with_offsets(run: Run, number: int) -> None:
    read, whole, other = run(_parts, number)
    assert read == [2, 3, 4]
    assert whole == [0, 1, 10, 11, 12, 5, 6, 7]
    assert other == [0, 10, 11, 12]


def _between_devices() -> list[float]:
    first = on_device(np.arange(5, dtype="float32"), 0)
    return first.copyto(tvm.device("opencl", 1)).numpy().tolist()


def test_copy_between_platforms(run: Run) -> None:
    assert run(_between_devices) == [0, 1, 2, 3, 4]


def _empty(number: int) -> tuple[int, ...]:
    return tuple(on_device(np.zeros((0, 3), "float32"), number).numpy().shape)


def test_tensor_without_elements(run: Run, number: int) -> None:
    assert run(_empty, number) == (0, 3)


def _allocated(number: int) -> tuple[int, int]:
    def now() -> int:
        return opencl.devices()[number].allocated

    before = now()
    tensor = on_device(np.zeros(1000, "float32"), number)
    during = now()
    del tensor
    return during - before, now() - before


def test_freed_memory_is_given_back(run: Run, number: int) -> None:
    assert run(_allocated, number) == (4000, 0)


def _attributes(number: int) -> tuple[OpenCLDevice, dict[str, Any]]:
    device = tvm.device("opencl", number)
    names = (
        "exist",
        "max_threads_per_block",
        "max_shared_memory_per_block",
        "device_name",
        "multi_processor_count",
        "warp_size",
        "total_global_memory",
        "compute_version",
    )
    return opencl.devices()[number], {name: getattr(device, name) for name in names}


def test_attributes(run: Run, number: int) -> None:
    device, told = run(_attributes, number)
    assert told["exist"]
    assert told["max_threads_per_block"] == device.work_group > 0
    assert told["max_shared_memory_per_block"] == device.local_memory > 0
    assert told["device_name"] == device.name
    assert told["total_global_memory"] == device.global_memory
    assert told["warp_size"] == 1
    assert told["multi_processor_count"] == device.compute_units > 0
    assert told["compute_version"].startswith("OpenCL")


def _fork() -> str:
    on_device(np.zeros(1, "float32"))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            on_device(np.zeros(1, "float32"))
        except RuntimeError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as told:
        return told.read()


def test_use_after_a_fork_is_refused(run: Run) -> None:
    assert "before the fork" in run(_fork)

"""OpenCL modules written by hand, in the bytes that TVM's code generator writes."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

_CODES = {"int": 0, "uint": 1, "float": 2, "handle": 3}
THREADS = ("blockIdx.x", "threadIdx.x")


@dataclass(frozen=True)
class MadeKernel:
    """A kernel: its name, the types of its arguments, and the meaning of the extents."""

    name: str
    arguments: tuple[str, ...]
    tags: tuple[str, ...] = THREADS


def module_bytes(source: str, *kernels: MadeKernel) -> bytes:
    """Return what the loader is given."""
    parts = [_text("cl"), struct.pack("<Q", len(kernels))]
    for kernel in kernels:
        parts += [_text(kernel.name), _text(kernel.name)]
        parts.append(struct.pack("<Q", len(kernel.arguments)))
        parts += [_type(name) for name in kernel.arguments]
        parts.append(struct.pack("<Q", len(kernel.tags)))
        parts += [_text(tag) for tag in kernel.tags]
        parts.append(struct.pack("<Q", 0))
    return b"".join([*parts, _text(source)])


def load(source: str, *kernels: MadeKernel) -> Any:
    """Return a loaded module."""
    return loader()(module_bytes(source, *kernels))


def loader() -> Callable[[bytes], Any]:
    """Return the plug-in's loader of modules."""
    function: Callable[[bytes], Any] = tvm.get_global_func("ffi.Module.load_from_bytes.opencl")
    return function


def on_device(array: np.ndarray, number: int = 0) -> Any:
    """Return a copy of an array on an OpenCL device."""
    return tvm.runtime.tensor(array, tvm.device("opencl", number))


def call(module: Any, name: str, arguments: Sequence[Any], extents: Sequence[int] = (1, 1)) -> None:
    """Call a kernel on the device of its first tensor, as the code of a library does."""
    tensors = [each for each in arguments if hasattr(each, "data_ptr")]
    number = tensors[0].device.index if tensors else 0
    tvm.get_global_func("__tvm_set_device")(4, number)
    given = [
        ctypes.c_void_p(each.data_ptr()) if hasattr(each, "data_ptr") else each
        for each in arguments
    ]
    module[name](*given, *extents)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _type(name: str) -> bytes:
    kind = name.rstrip("0123456789")
    return struct.pack("<BBH", _CODES[kind], int(name[len(kind) :] or 64), 1)

"""A native library in this process, through ctypes: neither TVM nor torch is there."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_void_p,
)
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff.deploy.loading import own_path
from tvm_eff.deploy.manifest import TensorInfo
from tvm_eff.errors import BundleError, UsageError

_ABI = 1
_BAD_ARGUMENT = 2
# numpy's NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_ALIGNED and NPY_ARRAY_WRITEABLE.
_IN_ORDER = 0x0001 | 0x0100
_WRITABLE = 0x0400

_memory_of: Callable[[Any], Any] = c_char.from_buffer
"""Of arrays that may be written to and are not empty: a third of the time of ``ctypes.data``."""


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("dtype", c_char_p),
        ("rank", c_int32),
        ("shape", POINTER(c_int64)),
        ("bytes", c_size_t),
        ("alignment", c_size_t),
    ]


class _Options(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("threads", c_int32),
        ("cores", POINTER(c_int32)),
        ("core_count", c_int32),
        ("refuse_nan", c_int32),
    ]


class _Library(ctypes.Structure):
    """``tvm_eff_library`` of ``runtime/native/tvm_eff.h``."""

    _fields_ = [
        ("abi", ctypes.c_uint32),
        ("name", c_char_p),
        ("built_for", c_char_p),
        ("input_count", c_int32),
        ("inputs", POINTER(_Tensor)),
        ("output_count", c_int32),
        ("outputs", POINTER(_Tensor)),
        ("arena_bytes", c_size_t),
        ("weight_bytes", c_size_t),
        ("kernel_count", c_int32),
        ("create", CFUNCTYPE(c_int, POINTER(_Options), POINTER(c_void_p))),
        ("run", CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p)),
        ("profile", c_void_p),
        ("threads", CFUNCTYPE(c_int32, c_void_p)),
        ("destroy", CFUNCTYPE(None, c_void_p)),
        ("last_error", CFUNCTYPE(c_char_p)),
    ]


class NativeModel:
    """One instance of a native library's network.

    Parameters
    ----------
    library
        The library.
    inputs, outputs
        What the bundle's manifest says of its tensors.
    threads
        How many threads it uses, the caller's among them; one for each core that this process
        may use if it is None.
    cores
        Where the other threads run; anywhere if it is empty.

    Raises
    ------
    BundleError
        It cannot be loaded, is another network's, or does not run on this processor.
    UsageError
        This process may not use as many cores, or not those.
    """

    def __init__(
        self,
        library: Path,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        threads: int | None = None,
        cores: Sequence[int] = (),
    ) -> None:
        self._model = c_void_p()
        path = library
        try:
            with own_path(library) as path:
                loaded = ctypes.CDLL(str(path), ctypes.RTLD_LOCAL)
            loaded.tvm_eff_this_library.restype = POINTER(_Library)
        except (OSError, AttributeError) as error:
            reason = str(error).replace(str(path), str(library))
            raise BundleError(
                f"{library} cannot be loaded: {reason}; build it again for this machine"
            ) from error
        self._interface = loaded.tvm_eff_this_library().contents
        self._check(library, inputs, outputs)
        self._outputs = [(each.shape, np.dtype(each.dtype)) for each in outputs]
        listed = (c_int32 * len(cores))(*cores) if cores else None
        options = _Options(ctypes.sizeof(_Options), threads or 0, listed, len(cores), 0)
        create = self._interface.create
        code = create(ctypes.byref(options), ctypes.byref(self._model))
        if code != 0:
            kind = UsageError if code == _BAD_ARGUMENT else BundleError
            raise kind(f"{library}: {self._last_error()}")
        self._given = (c_void_p * max(1, len(inputs)))()
        self._made = (c_void_p * max(1, len(outputs)))()
        self._run, self._instance = self._interface.run, self._model.value

    def __call__(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Run it on arrays of the right shapes and dtypes; one call at a time."""
        # Each microsecond here is one of every inference: no functions, no objects but arrays.
        given, made = self._given, self._made
        address_of, memory_of = ctypes.addressof, _memory_of
        lent, outputs = [], []  # they live until the call is over
        for number, array in enumerate(inputs):
            flags = array.flags.num
            if flags & _IN_ORDER != _IN_ORDER:
                array = np.array(array, order="C")
            lent.append(array)
            if flags & _WRITABLE and array.size:
                given[number] = address_of(memory_of(array))
            else:
                given[number] = array.ctypes.data
        for number, (shape, dtype) in enumerate(self._outputs):
            array = np.empty(shape, dtype)
            outputs.append(array)
            if array.size:
                made[number] = address_of(memory_of(array))
            else:
                made[number] = array.ctypes.data
        if self._run(self._instance, given, made) != 0:
            raise BundleError(self._last_error())
        return tuple(outputs)

    @property
    def threads(self) -> int:
        """How many threads it uses."""
        return int(self._interface.threads(self._model))

    def __del__(self) -> None:
        if self._model:
            self._interface.destroy(self._model)

    def _check(
        self, library: Path, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
    ) -> None:
        found = self._interface
        if found.abi != _ABI:
            raise BundleError(
                f"{library} has interface {found.abi}, and this tvm_eff reads {_ABI}; use the "
                "tvm_eff that it was built with"
            )
        taken = (found.inputs, found.input_count, inputs)
        for tensors, count, infos in (taken, (found.outputs, found.output_count, outputs)):
            if [_info(tensors[number]) for number in range(count)] != list(infos):
                raise BundleError(
                    f"{library} holds another network than the manifest says; build or copy the "
                    "bundle again"
                )

    def _last_error(self) -> str:
        return str(self._interface.last_error().decode(errors="replace"))


def _info(tensor: _Tensor) -> TensorInfo:
    shape = tuple(tensor.shape[axis] for axis in range(tensor.rank))
    return TensorInfo(tensor.name.decode(), shape, tensor.dtype.decode())

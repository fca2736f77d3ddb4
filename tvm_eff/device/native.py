"""Native libraries as a device sees them: ``main`` takes inputs, and outputs to fill."""

from __future__ import annotations

from typing import Any

import tvm

from tvm_eff.tensors import TensorSpec

_MARK = b"__tvm_ffi_tvm_eff_output_count\0"
_CODE, _BITS, _RANK = -3, -2, -1


def is_native(content: bytes) -> bool:
    """Whether a library is one, by the names that it exports."""
    return _MARK in content


def outputs_of(module: Any) -> list[TensorSpec]:
    """Ask a loaded library, here or on a board, what its outputs look like."""
    ask = module["tvm_eff_output"]
    return [_spec(ask, number) for number in range(module["tvm_eff_output_count"]())]


def _spec(ask: Any, number: int) -> TensorSpec:
    dtype = tvm.DataType("float32")
    found = type(dtype).from_dlpack_data_type((ask(number, _CODE), ask(number, _BITS), 1))
    shape = tuple(int(ask(number, axis)) for axis in range(ask(number, _RANK)))
    return TensorSpec(shape, str(found))

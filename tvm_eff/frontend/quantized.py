"""Converters of PyTorch's quantized operators: numbers to integers of 8 bits, and back.

Scales and zero points are those of the program, which may be quantized by any tool of PT2E.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

# It registers the operators, which a saved program may name.
from torch.ao.quantization.fx import _decomposed as _decomposed
from tvm import relax
from tvm.ir.expr import GenericConst

from tvm_eff.frontend.arithmetic import Converter
from tvm_eff.frontend.nodes import UnsupportedError

_NAMESPACE = "quantized_decomposed"
_LIMITS = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int32: (-(2**31), 2**31 - 1)}


def is_quantized(exported: torch.export.ExportedProgram) -> bool:
    """Whether a program holds quantized operators."""
    return any(getattr(node.target, "namespace", "") == _NAMESPACE for node in exported.graph.nodes)


def _require_byte(dtype: torch.dtype, least: int, most: int) -> str:
    """Return the dtype's name, if the values fill one that kernels compute in."""
    limits = _LIMITS.get(dtype)
    narrow = (-127, 127) if dtype == torch.int8 else None
    if limits is None or (least, most) not in (limits, narrow):
        raise UnsupportedError(
            f"values from {least} to {most} in {dtype} are not supported: quantize to all of int8 "
            "or uint8, or weights to -127 to 127"
        )
    return str(dtype).removeprefix("torch.")


def _quantize(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``quantize_per_tensor(x, scale, zero_point, quant_min, quant_max, dtype)``."""
    arguments: Any = node.args
    x, scale, zero, least, most, dtype = arguments[:6]
    name = _require_byte(dtype, least, most)
    if (least, most) != _LIMITS[dtype]:
        raise UnsupportedError("activations are clipped to -127 to 127; quantize to all of int8")
    call = relax.op.quantize(
        importer.env[x], _float(scale), _integer(zero, name), axis=-1, out_dtype=name
    )
    return importer.block_builder.emit(call)


def _dequantize(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``dequantize_per_tensor(x, scale, zero_point, quant_min, quant_max, dtype)``."""
    arguments: Any = node.args
    x, scale, zero, least, most, dtype = arguments[:6]
    name = _require_byte(dtype, least, most)
    call = relax.op.dequantize(importer.env[x], _float(scale), _integer(zero, name), axis=-1)
    return importer.block_builder.emit(call)


def _dequantize_channels(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``dequantize_per_channel(x, scales, zero_points, axis, quant_min, quant_max, dtype)``."""
    arguments: Any = node.args
    x, scales, zeros, axis, least, most, dtype = arguments[:7]
    name = _require_byte(dtype, least, most)
    emit = importer.block_builder.emit
    zero = _integer_zeros(scales, name) if zeros is None else importer.env[zeros]
    if str(zero.ty.dtype) != name:
        zero = emit(relax.op.astype(zero, name))
    return emit(relax.op.dequantize(importer.env[x], importer.env[scales], zero, axis=int(axis)))


def _float(value: float) -> GenericConst:
    return relax.const(np.float32(value))


def _integer(value: int, dtype: str) -> GenericConst:
    return relax.const(np.asarray(value, dtype))


def _integer_zeros(like: torch.fx.Node, dtype: str) -> GenericConst:
    return relax.const(np.zeros(tuple(like.meta["val"].shape), dtype))


CONVERTERS: dict[str, Converter] = {
    "quantize_per_tensor.default": _quantize,
    "dequantize_per_tensor.default": _dequantize,
    "dequantize_per_channel.default": _dequantize_channels,
}

"""The arithmetic of quantized operators, one function each, on exact integers.

Every function returns None where an operator is not computed in integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

MOST_BIAS = 2**28
"""Steps of a bias that sums can start from; one of more is added in float32."""

FRACTION_BITS = 21
"""Of the factors of two summands."""

_INFINITY = float("inf")
_MOST_EXACT = 2**24


@dataclass(frozen=True)
class Scaled:
    """Integers that stand for ``(stored + offset) * scale``, between two limits.

    Attributes
    ----------
    stored
        Whole numbers in double precision, which are exact; or averages in float32.
    scale, offset
        In double precision, of a shape that broadcasts.
    dtype
        What it is stored in: ``torch.int8`` or ``torch.uint8``; ``torch.int32`` for sums, and
        ``torch.float32`` for averages.
    weight
        Whether it is one.
    """

    stored: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor
    dtype: torch.dtype
    least: float = -_INFINITY
    most: float = _INFINITY
    weight: bool = False

    @property
    def is_activation(self) -> bool:
        """Whether it is integers of 8 bits, of one scale."""
        return self.dtype.itemsize == 1 and not self.weight

    @property
    def zero(self) -> int:
        """The zero point of an activation."""
        return -int(self.offset)


def plain(value: Any) -> torch.Tensor:
    """Return the numbers that integers stand for, in float32."""
    if not isinstance(value, Scaled):
        assert isinstance(value, torch.Tensor)
        return value
    found = _float(value, value.scale)
    return found.clamp(value.least, value.most)


def _float(value: Scaled, factor: torch.Tensor) -> torch.Tensor:
    if value.dtype == torch.float32:
        whole = value.stored + value.offset.float()
    else:
        whole = (value.stored + value.offset).float()
    return whole * factor.float()


def _one(number: float) -> torch.Tensor:
    return torch.tensor(number, dtype=torch.float64)


def _single(number: float) -> float:
    return float(torch.tensor(number, dtype=torch.float32))


def _quantize(
    value: Any, scale: float, zero: int, least: int, most: int, dtype: torch.dtype
) -> torch.Tensor | None:
    if not isinstance(value, Scaled):
        return None
    scale = _single(scale)
    held = (float(value.scale), value.zero, value.dtype) if value.is_activation else None
    if held == (scale, zero, dtype):
        return value.stored.to(dtype)
    limits = [_limit(each, scale, zero, least, most) for each in (value.least, value.most)]
    found = torch.round(_float(value, value.scale / scale)) + zero
    return found.clamp(*limits).to(dtype)


def _limit(value: float, scale: float, zero: int, least: int, most: int) -> float:
    if value in (_INFINITY, -_INFINITY):
        return most if value > 0 else least
    scaled = torch.tensor(value, dtype=torch.float32) * _single(1 / scale)
    return min(max(float(torch.round(scaled)) + zero, least), most)


def _dequantize(
    value: torch.Tensor, scale: float, zero: int, least: int, most: int, dtype: torch.dtype
) -> Scaled:
    return Scaled(value.double(), _one(_single(scale)), _one(-zero), dtype)


def _dequantize_channels(
    value: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor | None,
    axis: int,
    least: int,
    most: int,
    dtype: torch.dtype,
) -> Scaled | None:
    if dtype != torch.int8 or (zeros is not None and bool(zeros.any())):
        return None
    along = [-1 if each == axis else 1 for each in range(value.dim())]
    steps = scales.double().reshape(along)
    return Scaled(value.double(), steps, _one(0), dtype, weight=True)


def _convolution(
    source: Any,
    weight: Any,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Scaled | torch.Tensor | None:
    if transposed or not _can_multiply(source, weight) or weight.stored.dim() != 4:
        return None
    shifted = source.stored + source.offset
    sums = functional.conv2d(shifted, weight.stored, None, stride, padding, dilation, groups)
    scale = source.scale * weight.scale.reshape(1, -1, 1, 1)
    found = Scaled(sums, scale, _one(0), torch.int32)
    return found if bias is None else _biased(found, bias.reshape(1, -1, 1, 1))


def _dense(bias: Any, source: Any, weight: Any) -> Scaled | torch.Tensor | None:
    found = _product(source, weight)
    return None if found is None else _biased(found, bias)


def _product(source: Any, weight: Any) -> Scaled | None:
    if not _can_multiply(source, weight) or weight.stored.dim() != 2:
        return None
    sums = (source.stored + source.offset) @ weight.stored
    return Scaled(sums, source.scale * weight.scale.reshape(1, -1), _one(0), torch.int32)


def _can_multiply(source: Any, weight: Any) -> bool:
    both = isinstance(source, Scaled) and isinstance(weight, Scaled)
    return both and source.is_activation and weight.weight


def _biased(sums: Scaled, bias: torch.Tensor) -> Scaled | torch.Tensor:
    steps = torch.round(bias.double() / sums.scale)
    if float(steps.abs().max()) > MOST_BIAS:
        return plain(sums) + bias
    return replace(sums, offset=sums.offset + steps)


def _add(one: Any, other: Any) -> Scaled | torch.Tensor | None:
    if not _both_activations(one, other):
        return None
    step = max(float(one.scale), float(other.scale)) / 2**FRACTION_BITS
    sums = sum(
        (each.stored + each.offset) * round(float(each.scale) / step) for each in (one, other)
    )
    assert isinstance(sums, torch.Tensor)
    return Scaled(sums, _one(step), _one(0), torch.int32)


def _multiply(one: Any, other: Any) -> Scaled | None:
    if not _both_activations(one, other):
        return None
    product = (one.stored + one.offset) * (other.stored + other.offset)
    return Scaled(product, one.scale * other.scale, _one(0), torch.int32)


def _both_activations(*values: Any) -> bool:
    return all(isinstance(each, Scaled) and each.is_activation for each in values)


def _clip(value: Any, least: float | None = None, most: float | None = None) -> Scaled | None:
    low = -_INFINITY if least is None else float(least)
    high = _INFINITY if most is None else float(most)
    if not isinstance(value, Scaled) or value.weight:
        return None
    found = value if value.dtype.itemsize > 1 else replace(value, dtype=torch.int32)
    return replace(
        found,
        least=max(low, min(found.least, high)),
        most=min(high, max(found.most, low)),
    )


def _mean(value: Any, axes: list[int], keep: bool = False) -> Scaled | None:
    if not _both_activations(value):
        return None
    count = 1
    for axis in axes:
        count *= value.stored.shape[axis]
    return _averaged(value, value.stored.sum(axes, keep), count)


def _average(
    value: Any,
    kernel: list[int],
    stride: list[int] | None = None,
    padding: int | list[int] = 0,
    ceil_mode: bool = False,
    *others: Any,
) -> Scaled | None:
    padded = any(padding) if isinstance(padding, list) else bool(padding)
    if not _both_activations(value) or padded or ceil_mode or any(others[1:]):
        return None
    sums = functional.avg_pool2d(value.stored, kernel, stride, divisor_override=1)
    return _averaged(value, sums, kernel[0] * kernel[-1] if len(kernel) > 1 else kernel[0] ** 2)


def _adaptive_average(value: Any, size: list[int]) -> Scaled | None:
    if not _both_activations(value):
        return None
    extents = value.stored.shape[-2:]
    if any(extent % parts for extent, parts in zip(extents, size, strict=True)):
        return None
    window = [extent // parts for extent, parts in zip(extents, size, strict=True)]
    return _average(value, window, window)


def _averaged(value: Scaled, sums: torch.Tensor, count: int) -> Scaled | None:
    if 255 * count > _MOST_EXACT:
        return None
    return replace(value, stored=sums.float() / count, dtype=torch.float32)


def _maximum(value: Any, *window: Any) -> tuple[Scaled, None] | None:
    if not _both_activations(value):
        return None
    found, _ = torch.ops.aten.max_pool2d_with_indices.default(value.stored, *window)
    return replace(value, stored=found), None


def _concatenation(values: Any, axis: int = 0) -> Scaled | None:
    if not _both_activations(*values):
        return None
    if len({(float(each.scale), each.zero, each.dtype) for each in values}) != 1:
        return None
    return replace(values[0], stored=torch.cat([each.stored for each in values], axis))


def _moved(operator: Any) -> Callable[..., Scaled | None]:
    def move(value: Any, *arguments: Any) -> Scaled | None:
        if not _both_activations(value):
            return None
        return replace(value, stored=operator(value.stored, *arguments))

    return move


def _element(values: Any, place: int) -> Any:
    return values[place] if isinstance(values[place], Scaled) else None


def _same(value: Any) -> Scaled | None:
    return value if isinstance(value, Scaled) else None


def _turned(value: Any, axes: list[int]) -> Scaled | None:
    if not isinstance(value, Scaled) or value.dtype.itemsize != 1:
        return None
    scale = value.scale.permute(axes) if value.weight else value.scale
    return replace(value, stored=value.stored.permute(axes), scale=scale)


_ATEN = torch.ops.aten

RULES: dict[str, Callable[..., Any]] = {
    "quantize_per_tensor.default": _quantize,
    "dequantize_per_tensor.default": _dequantize,
    "dequantize_per_channel.default": _dequantize_channels,
    "convolution.default": _convolution,
    "addmm.default": _dense,
    "mm.default": _product,
    "add.Tensor": _add,
    "mul.Tensor": _multiply,
    "relu.default": lambda value: _clip(value, 0),
    "hardtanh.default": lambda value, least=-1, most=1: _clip(value, least, most),
    "clamp.default": _clip,
    "mean.dim": _mean,
    "avg_pool2d.default": _average,
    "_adaptive_avg_pool2d.default": _adaptive_average,
    "max_pool2d_with_indices.default": _maximum,
    "cat.default": _concatenation,
    "permute.default": _turned,
    "getitem": _element,
    "alias.default": _same,
    "clone.default": _same,
    **{
        f"{name}": _moved(operator)
        for name, operator in (
            ("reshape.default", _ATEN.reshape.default),
            ("view.default", _ATEN.reshape.default),
            ("slice.Tensor", _ATEN.slice.Tensor),
            ("squeeze.dim", _ATEN.squeeze.dim),
            ("squeeze.dims", _ATEN.squeeze.dims),
            ("unsqueeze.default", _ATEN.unsqueeze.default),
        )
    },
}
"""The operators that integers compute, by ATen name."""

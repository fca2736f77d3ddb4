"""How each operator is computed on integers, where what it reads is quantized."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax

from tvm_eff.passes.relax._calls import rebuild_call, shape_of
from tvm_eff.passes.relax.integer_values import (
    INFINITY,
    Known,
    Quantized,
    State,
    Sums,
    Target,
    Values,
    Weight,
    scalar,
)

Rule = Callable[[Values, relax.Call], "State | None"]

MOST_BIAS = 2**28
"""Of the magnitude of a bias in steps of the sums; one of more is added in float32."""

_MOST_SUM = 2**31 - 1

FRACTION_BITS = 21
"""Of the factors that bring two summands to one scale: a summand then has 30 bits."""

_MOST_EXACT = 2**24
"""Up to it, float32 holds every integer."""


def quantize(values: Values, call: relax.Call) -> State | None:
    """Numbers to integers of 8 bits."""
    data, scale, zero = call.args
    into = _target(values, scale, zero, str(call.attrs.out_dtype))
    return values.quantize(values.state_of(data), data, into)


def dequantize(values: Values, call: relax.Call) -> State | None:
    """Integers of 8 bits to numbers: nothing is computed yet."""
    data, scale, zero = call.args
    held = values.state_of(data)
    if isinstance(held, Known):
        return _known_weight(values, call, held.value)
    found = values.plain(data)
    into = _target(values, scale, zero, str(found.ty.dtype))
    return Quantized(found, into.scale, into.zero)


def _target(values: Values, scale: relax.Expr, zero: relax.Expr, dtype: str) -> Target:
    found = float(np.float32(scalar(values.state_of(scale))))
    return Target(found, int(scalar(values.state_of(zero))), dtype)


def _known_weight(values: Values, call: relax.Call, value: np.ndarray) -> State:
    scale, zero = (values.state_of(each) for each in call.args[1:])
    assert isinstance(scale, Known)
    assert isinstance(zero, Known), "scales and zero points are constants of the program"
    axis = int(call.attrs.axis) % value.ndim
    scales = _along(scale.value.astype("float32"), axis, value.ndim)
    zeros = _along(zero.value.astype("int64"), axis, value.ndim)
    if value.dtype != np.int8 or zeros.any():
        return Known(((value - zeros).astype("float32") * scales).astype("float32"))
    return Weight(value, scales)


def _along(parameter: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """One value for each channel, or one, in the rank of the tensor."""
    many = parameter.size > 1
    return parameter.reshape([-1 if many and each == axis else 1 for each in range(rank)])


def convolution(values: Values, call: relax.Call) -> State | None:
    """Convolution: products of integers, summed in 32 bits."""
    source, weight = map(values.state_of, call.args)
    plain = call.attrs.data_layout == "NCHW" and call.attrs.kernel_layout == "OIHW"
    if not plain or not isinstance(source, Quantized) or not isinstance(weight, Weight):
        return None
    channels = weight.value.shape[0]
    if weight.scale.size not in (1, channels) or weight.scale.shape[0] != weight.scale.size:
        return None
    if not _fits(source, weight.value.reshape(channels, -1)):
        return None
    top, left, bottom, right = (int(n) for n in call.attrs.padding)
    more = _missing_channels(values, call)
    data, changed = source.stored, {}
    if more or (source.zero and any((top, left, bottom, right))):
        widths = [0, 0, 0, more, top, bottom, left, right]
        data = values.emit(relax.op.nn.pad(data, widths, "constant", source.zero))
        changed["padding"] = [0, 0, 0, 0]
    filled = np.pad(weight.value, ((0, 0), (0, more), (0, 0), (0, 0)))
    data, kernel = _factors(values, data, filled)
    sums = values.emit(rebuild_call(call, [data, kernel], out_dtype="int32", **changed))
    shape = (1, channels, 1, 1)
    total = weight.value.astype("int64").reshape(channels, -1).sum(axis=1).reshape(shape)
    scale = weight.scale.astype("float64").reshape(shape if weight.scale.size > 1 else (1,) * 4)
    return Sums(sums, source.scale * scale, -source.zero * total)


def _missing_channels(values: Values, call: relax.Call) -> int:
    """How many input channels an image lacks for a dot product; their weights are zero."""
    shape = shape_of(call.args[0])
    assert shape is not None, "inputs have fixed shapes"
    few = int(call.attrs.groups) == 1 and shape[1] < values.dot_product
    return values.dot_product - shape[1] if few else 0


def dense(values: Values, call: relax.Call) -> State | None:
    """A dense layer: its weight is [input][output]."""
    source, weight = map(values.state_of, call.args)
    if not isinstance(source, Quantized) or not isinstance(weight, Weight):
        return None
    if weight.value.ndim != 2 or weight.scale.shape[0] != 1:
        return None
    if not _fits(source, weight.value.T):
        return None
    data, kernel = _factors(values, source.stored, weight.value)
    sums = values.emit(relax.op.matmul(data, kernel, out_dtype="int32"))
    total = weight.value.astype("int64").sum(axis=0)
    scale = weight.scale.astype("float64").reshape(-1)
    return Sums(sums, source.scale * scale, -source.zero * total)


def _factors(values: Values, data: relax.Expr, weight: np.ndarray) -> tuple[relax.Expr, relax.Expr]:
    """What is multiplied: bytes, of which Arm sums two products in 16 bits, or 16 bits.

    Of -128 twice the product with -128 does not fit. No quantizer of ours makes such a weight.
    """
    if str(data.ty.dtype) == "int8" and int(weight.min(initial=0)) == -128:
        data, weight = values.emit(relax.op.astype(data, "int16")), weight.astype("int16")
    return data, values.parameter(weight)


def _fits(source: Quantized, weights: np.ndarray) -> bool:
    """Whether sums stay within 32 bits, whatever the input, in any order of the summands.

    Parameters
    ----------
    source
        The input.
    weights
        Those of each output channel in a row.
    """
    heaviest = int(np.abs(weights.astype("int64")).sum(axis=1).max(initial=0))
    largest = 255 if source.dtype == "uint8" else 128
    return (largest + abs(source.zero)) * heaviest + MOST_BIAS <= _MOST_SUM


def add(values: Values, call: relax.Call) -> State | None:
    """A bias onto sums, or two quantized tensors."""
    one, other = map(values.state_of, call.args)
    if isinstance(one, Quantized) and isinstance(other, Quantized):
        return _added(values, one, other)
    for sums, bias in ((one, other), (other, one)):
        if isinstance(sums, Sums) and isinstance(bias, Known):
            return _with_bias(sums, bias.value, call)
    return None


def _with_bias(sums: Sums, bias: np.ndarray, call: relax.Call) -> State | None:
    """The nearest whole number of the sums' steps starts them, unless it does not fit."""
    if (sums.least, sums.most) != (-INFINITY, INFINITY) or str(sums.stored.ty.dtype) != "int32":
        return None
    shape = shape_of(call)
    if shape is None or shape != shape_of(sums.stored) or bias.dtype != np.float32:
        return None
    steps = np.rint(bias.astype("float64") / sums.scale)
    if not np.isfinite(steps).all() or np.abs(steps).max(initial=0) > MOST_BIAS:
        return None
    return Sums(sums.stored, sums.scale, sums.offset + steps.astype("int64"))


def _added(values: Values, one: Quantized, other: Quantized) -> Sums:
    """Two tensors in steps so fine that both factors are integers of 21 bits."""
    step = max(one.scale, other.scale) / 2**FRACTION_BITS
    wide, offset = [], 0
    for each in (one, other):
        factor = round(each.scale / step)
        cast = values.emit(relax.op.astype(each.stored, "int32"))
        wide.append(values.emit(relax.op.multiply(cast, relax.const(factor, "int32"))))
        offset -= each.zero * factor
    found = values.emit(relax.op.add(*wide))
    return Sums(found, np.full((), step, "float64"), np.full((), offset, "int64"))


def multiply(values: Values, call: relax.Call) -> State | None:
    """The product of two quantized tensors."""
    one, other = map(values.state_of, call.args)
    if not isinstance(one, Quantized) or not isinstance(other, Quantized):
        return None
    wide = []
    for each in (one, other):
        cast = values.emit(relax.op.astype(each.stored, "int32"))
        zero = relax.const(each.zero, "int32")
        wide.append(values.emit(relax.op.subtract(cast, zero)) if each.zero else cast)
    found = values.emit(relax.op.multiply(*wide))
    return Sums(found, np.full((), one.scale * other.scale, "float64"), np.zeros((), "int64"))


def relu(values: Values, call: relax.Call) -> State | None:
    """What is below zero becomes zero."""
    return _limited(values, call.args[0], 0.0, INFINITY)


def clip(values: Values, call: relax.Call) -> State | None:
    """What is beyond two numbers becomes them, as for ReLU6."""
    least, most = (_number(each) for each in call.args[1:])
    return _limited(values, call.args[0], least, most)


def _number(expr: relax.Expr) -> float:
    value = getattr(expr, "value", expr)
    return float(getattr(value, "value", value))


def _limited(values: Values, data: relax.Expr, least: float, most: float) -> State | None:
    state = values.state_of(data)
    if isinstance(state, Quantized):
        state = values.sums_of(state)
    if not isinstance(state, Sums):
        return None
    low, high = max(least, min(state.least, most)), min(most, max(state.most, least))
    return Sums(state.stored, state.scale, state.offset, low, high)


def average(values: Values, call: relax.Call) -> State | None:
    """An average pooling: the sum of integers is exact in float32."""
    source = values.state_of(call.args[0])
    if not isinstance(source, Quantized) or call.attrs.ceil_mode or call.attrs.layout != "NCHW":
        return None
    if any(int(n) for n in call.attrs.padding):
        return None
    return _averaged(values, call, source, math.prod(int(n) for n in call.attrs.pool_size))


def adaptive_average(values: Values, call: relax.Call) -> State | None:
    """An average pooling that has so many results."""
    source = values.state_of(call.args[0])
    before, after = shape_of(call.args[0]), shape_of(call)
    if not isinstance(source, Quantized) or before is None or after is None:
        return None
    if any(size % parts for size, parts in zip(before[2:], after[2:], strict=True)):
        return None
    return _averaged(values, call, source, math.prod(before[2:]) // math.prod(after[2:]))


def mean(values: Values, call: relax.Call) -> State | None:
    """The mean over some dimensions."""
    source, before, after = values.state_of(call.args[0]), shape_of(call.args[0]), shape_of(call)
    if not isinstance(source, Quantized) or before is None or after is None:
        return None
    return _averaged(values, call, source, math.prod(before) // math.prod(after))


def _averaged(values: Values, call: relax.Call, source: Quantized, count: int) -> State | None:
    if 255 * count > _MOST_EXACT:
        return None
    wide = values.emit(relax.op.astype(source.stored, "float32"))
    found = values.emit(rebuild_call(call, [wide]))
    scale = np.full((), source.scale, "float64")
    return Sums(found, scale, np.full((), -source.zero, "int64"))


def moved(values: Values, call: relax.Call) -> State | None:
    """Operators that move or choose values."""
    data, *others = call.args
    state = values.state_of(data)
    if isinstance(state, Known):
        return _known_moved(call, state.value)
    if isinstance(state, Weight) and call.op.name == "relax.permute_dims":
        axes = _axes(call, state.value.ndim)
        return Weight(state.value.transpose(axes), state.scale.transpose(axes))
    if not isinstance(state, Quantized):
        return None
    found = values.emit(rebuild_call(call, [state.stored, *others]))
    return Quantized(found, state.scale, state.zero)


def _known_moved(call: relax.Call, value: np.ndarray) -> State | None:
    if call.op.name == "relax.permute_dims":
        return Known(value.transpose(_axes(call, value.ndim)))
    shape = shape_of(call)
    views = ("relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten")
    return Known(value.reshape(shape)) if call.op.name in views and shape is not None else None


def _axes(call: relax.Call, rank: int) -> Sequence[int]:
    axes = call.attrs.axes
    return [int(a) % rank for a in axes] if axes else list(reversed(range(rank)))


def cast(values: Values, call: relax.Call) -> State | None:
    """A constant in another dtype; a layer in float16 reads its weight as it is stored."""
    state = values.state_of(call.args[0])
    if not isinstance(state, Known) or str(state.value.dtype) == "float16":
        return None
    return Known(state.value.astype(str(call.attrs.dtype)))


def concatenation(values: Values, call: relax.Call) -> State | None:
    """Tensors of one scale side by side."""
    if not isinstance(call.args[0], relax.Tuple):
        return None
    states = [values.state_of(each) for each in call.args[0].fields]
    found = [each for each in states if isinstance(each, Quantized)]
    if len({(each.scale, each.zero, each.dtype) for each in found}) != 1:
        return None
    if len(found) < len(states):
        return None
    joined = rebuild_call(call, [relax.Tuple([each.stored for each in found])])
    return Quantized(values.emit(joined), found[0].scale, found[0].zero)


_MOVES = ("expand_dims", "flatten", "permute_dims", "reshape", "squeeze", "strided_slice")

RULES: dict[str, Rule] = {
    "relax.quantize": quantize,
    "relax.dequantize": dequantize,
    "relax.nn.conv2d": convolution,
    "relax.matmul": dense,
    "relax.add": add,
    "relax.multiply": multiply,
    "relax.nn.relu": relu,
    "relax.clip": clip,
    "relax.nn.avg_pool2d": average,
    "relax.nn.adaptive_avg_pool2d": adaptive_average,
    "relax.mean": mean,
    "relax.nn.max_pool2d": moved,
    "relax.concat": concatenation,
    "relax.astype": cast,
    **{f"relax.{name}": moved for name in _MOVES},
}
"""The operators that integers compute."""

"""A pointwise convolution rewritten as Strassen's product of two matrices.

Positions, input channels and output channels are halved. Seven products of sums of
quarters, instead of eight, give the four quarters of the result (V. Strassen, "Gaussian
Elimination is not Optimal", 1969). The sums of weights are precomputed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis
from tvm_eff.schedules.analysis import contraction
from tvm_eff.schedules.winograd.rewrite import replace_convolution

INPUT, PRODUCT, OUTPUT, RESULT = (
    "strassen_input",
    "strassen_product",
    "strassen_output",
    "strassen_result",
)
"""Names of the blocks, in program order."""

Quarters = Mapping[tuple[int, int], float]

INPUTS: tuple[Quarters, ...] = (
    {(0, 0): 1, (1, 1): 1},
    {(1, 0): 1, (1, 1): 1},
    {(0, 0): 1},
    {(1, 1): 1},
    {(0, 0): 1, (0, 1): 1},
    {(1, 0): 1, (0, 0): -1},
    {(0, 1): 1, (1, 1): -1},
)
"""For each product, the quarters (positions, input channels) summed in its first factor.

One half of the positions is the even ones, the other half the odd ones.
"""

WEIGHTS: tuple[Quarters, ...] = (
    {(0, 0): 1, (1, 1): 1},
    {(0, 0): 1},
    {(0, 1): 1, (1, 1): -1},
    {(1, 0): 1, (0, 0): -1},
    {(1, 1): 1},
    {(0, 0): 1, (0, 1): 1},
    {(1, 0): 1, (1, 1): 1},
)
"""For each product, the quarters (input channels, output channels) summed in its second factor."""

OUTPUTS: Mapping[tuple[int, int], Mapping[int, float]] = {
    (0, 0): {0: 1, 3: 1, 4: -1, 6: 1},
    (0, 1): {2: 1, 4: 1},
    (1, 0): {1: 1, 3: 1},
    (1, 1): {0: 1, 1: -1, 2: 1, 5: 1},
}
"""For each quarter (positions, output channels) of the result, the products summed in it."""

PRODUCTS = len(INPUTS)

BLOCK = 8
"""Output channels of the smallest register tile."""

MIN_POSITIONS = 32
"""The algorithm does not pay for fewer positions."""


@dataclass(frozen=True)
class Pointwise:
    """A 1x1 convolution of stride 1 whose matrices can be halved.

    Attributes
    ----------
    block
        The name of the contraction block.
    source
        The buffer it reads: [batch, height, width, input channel].
    result
        The buffer of the sums: [batch, height, width, output channel].
    weight_parameter
        Index of the weight parameter: [output channel, 1, 1, input channel].
    padding_block
        The name of the block that copies the source, if there is one.
    """

    block: str
    source: Any
    result: Any
    weight_parameter: int
    padding_block: str | None

    @property
    def positions(self) -> int:
        """Rows of the first factor."""
        return math.prod(int(n) for n in self.source.shape[:3])

    def half(self, chunks: int = 1) -> int:
        """Rows of a quarter, rounded up to `chunks` equal parts; the last may be padding."""
        return -(-self.positions // (2 * chunks)) * chunks

    def half_channels(self, block: int) -> int:
        """Output channels of a quarter, rounded up to whole blocks; the other half may be less."""
        return _half_channels(int(self.result.shape[3]), block)


def match(func: PrimFunc, min_channels: int) -> Pointwise | None:
    """Match `func` as a pointwise convolution that can be halved; None if it is not one.

    Parameters
    ----------
    func
        A fused PrimFunc.
    min_channels
        The minimum of both the input and the output channels.
    """
    work = contraction(func)
    if work is None or work.depthwise or work.groups != 1 or work.weight_parameter is None:
        return None
    if work.positions != (0, 1, 2) or work.channel != 3 or len(work.reduction) != 3:
        return None
    positions = [work.extents[axis] for axis in work.positions]
    if [work.extents[axis] for axis in work.reduction[:2]] != [1, 1]:
        return None
    sizes = (math.prod(positions), work.depth, work.channels)
    if (
        work.depth % 2
        or work.channels % (BLOCK // 2)
        or sizes[0] < MIN_POSITIONS
        or min(sizes[1:]) < min_channels
    ):
        return None
    if list(work.input_shape) != [*positions, work.depth]:
        return None
    if work.weight_axes != (work.channel, *work.reduction):
        return None
    sch = analysis.inspect(func)
    main = sch.get_sblock(work.block)
    block = sch.get(main)
    producers = [sch.get(each) for each in sch.get_producers(main)]
    if len(producers) > 1 or not all(analysis.is_identity_copy(each) for each in producers):
        return None
    source = producers[0].body.value.source if producers else block.reads[work.input_read].source
    if str(source.dtype) != "float32" or not any(p.same_as(source) for p in func.params):
        return None
    return Pointwise(
        work.block,
        source,
        block.writes[0].source,
        work.weight_parameter,
        str(producers[0].name_hint) if producers else None,
    )


def rewrite(func: PrimFunc, work: Pointwise, block: int, chunks: int = 1) -> PrimFunc:
    """Return an equivalent function that takes the transformed weight.

    Parameters
    ----------
    func
        The convolution.
    work
        Its match by :func:`match`.
    block
        The output channels of a quarter are a multiple of this.
    chunks
        The rows of a quarter are a multiple of this.
    """
    stages = _stages(work, work.half(chunks), work.half_channels(block))
    return replace_convolution(func, work, stages)


def weight_function(shape: Sequence[int], dtype: str, block: int) -> PrimFunc:
    """Return the PrimFunc that sums quarters of weights [output channel, 1, 1, input channel]."""
    weight = te.placeholder(shape, dtype, name="weight")
    channels, depth = _half_channels(int(shape[0]), block), int(shape[3]) // 2

    def at(f: Any, i: Any, k: Any) -> Any:
        def quarter(r: int, s: int) -> Any:
            value = weight[f + s * channels, 0, 0, k + r * depth]
            if not s or 2 * channels == shape[0]:
                return value
            inside = f + s * channels < shape[0]
            return tirx.if_then_else(inside, value, tirx.const(0, dtype))

        return _choose(i, [_sum(quarters, quarter) for quarters in WEIGHTS])

    result = te.compute((channels, PRODUCTS, depth), at, name="strassen_weight")
    return te.create_prim_func([weight, result]).without_attr("global_symbol")


def transform_weight(weight: np.ndarray, block: int) -> np.ndarray:
    """Return weights [output channel, 1, 1, input channel] as their sums of quarters.

    Returns
    -------
    numpy.ndarray
        [half of the output channels, product, half of the input channels].
    """
    outer, _, _, depth = weight.shape
    channels = _half_channels(outer, block)
    padded = np.pad(weight.reshape(outer, depth), ((0, 2 * channels - outer), (0, 0)))
    halves = padded.reshape(2, channels, 2, depth // 2)
    sums = [sum(c * halves[s, :, r] for (r, s), c in quarters.items()) for quarters in WEIGHTS]
    return np.ascontiguousarray(np.stack(sums, axis=1).astype(weight.dtype))


def _half_channels(channels: int, block: int) -> int:
    return -(-channels // (2 * block)) * block


def _stages(work: Pointwise, half: int, channels: int) -> list[te.Tensor]:
    """Source, transformed weight and result of the algorithm in tensor expressions."""
    batch, height, width, inner = (int(n) for n in work.source.shape)
    outer = int(work.result.shape[3])
    dtype = str(work.source.dtype)
    depth = inner // 2
    source = te.placeholder((batch, height, width, inner), dtype, name="source")
    weight = te.placeholder((channels, PRODUCTS, depth), dtype, name="transformed_weight")

    def input_at(i: Any, p: Any, k: Any) -> Any:
        def quarter(q: int, r: int) -> Any:
            position = 2 * p + q
            n, y, x = _image_row_column(position, batch, height, width)
            value = source[n, y, x, k + r * depth]
            if 2 * half == work.positions or (not q and 2 * half == work.positions + 1):
                return value
            return tirx.if_then_else(position < work.positions, value, tirx.const(0, dtype))

        return _choose(i, [_sum(quarters, quarter) for quarters in INPUTS])

    transformed = te.compute((PRODUCTS, half, depth), input_at, name=INPUT)
    axis = te.reduce_axis((0, depth), name="depth")
    product = te.compute(
        (PRODUCTS, half, channels),
        lambda i, p, f: te.sum(transformed[i, p, axis] * weight[f, i, axis], axis=axis),
        name=PRODUCT,
    )

    def output_at(p: Any, q: Any, s: Any, f: Any) -> Any:
        def quarter(here: int, there: int) -> Any:
            return _sum(OUTPUTS[here, there], lambda i: product[i, p, f])

        rows = [_choose(s, [quarter(here, there) for there in (0, 1)]) for here in (0, 1)]
        return _choose(q, rows)

    output = te.compute((half, 2, 2, channels), output_at, name=OUTPUT)

    def result_at(n: Any, y: Any, x: Any, f: Any) -> Any:
        position = (n * height + y) * width + x if batch > 1 else y * width + x
        return output[position // 2, position % 2, f // channels, f % channels]

    result = te.compute((batch, height, width, outer), result_at, name=RESULT)
    return [source, weight, result]


def _image_row_column(position: Any, batch: int, height: int, width: int) -> tuple[Any, Any, Any]:
    """The image, row and column of a flattened position."""
    if batch == 1:
        return 0, position // width, position % width
    return position // (height * width), position // width % height, position % width


def _sum(coefficients: Mapping[Any, float], element: Callable[..., Any]) -> Any:
    """The signed sum of elements, in the order of the coefficients."""
    total = None
    for key, sign in coefficients.items():
        value = element(*key) if isinstance(key, tuple) else element(key)
        total = value if total is None else total + value if sign > 0 else total - value
    return total


def _choose(index: Any, values: Sequence[Any]) -> Any:
    """Select ``values[index]``, which folds to one of them once the loop is unrolled."""
    chosen = values[-1]
    for number in reversed(range(len(values) - 1)):
        chosen = tirx.Select(index == number, values[number], chosen)
    return chosen

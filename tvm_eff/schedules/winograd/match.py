"""Matches convolutions that Winograd's algorithm computes with fewer multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.sym import Analyzer
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.winograd.integers import FILTERING
from tvm_eff.schedules.winograd.transforms import Filter, filters

BYTES = "int8"

MAX_STRIDE = 2

MAX_PRODUCT_RATIO = 0.5
"""Relative to direct convolution; above it, the transforms outweigh the savings."""

LEAST_CHANNELS = 8
"""Input and output channels with which the algorithm is known to gain most."""

MAX_RATIO_OF_TILES = 2 / 3
"""As :data:`MAX_PRODUCT_RATIO`, counting tiles that are cut off, where it is known to gain most."""

FILTERS_IN_HALF = (Filter(2, 3),)
"""Where values are float16: its transforms add and subtract, and round little. Those of a tile of
6 x 6 inputs enlarge what was rounded: even exact sums are then off by more than is allowed."""


@dataclass(frozen=True)
class Convolution:
    """A convolution that Winograd's algorithm computes.

    Attributes
    ----------
    block
        The name of the contraction block.
    source
        The buffer before padding: [batch, height, width, input channel].
    result
        The buffer of the sums: [batch, height, width, output channel].
    weight_parameter
        Index of the weight parameter: [output channel, row, column, input channel].
    kernel
        Rows and columns of the kernel.
    stride
        In both directions.
    padding
        Values above and to the left.
    padding_block
        The name of the block that pads, if there is one.
    padding_value
        What it pads with: bytes with their zero point.
    """

    block: str
    source: Any
    result: Any
    weight_parameter: int
    kernel: int
    stride: int
    padding: tuple[int, int]
    padding_block: str | None
    padding_value: float = 0

    @property
    def depth(self) -> int:
        """Input channels of the equivalent convolution of stride 1."""
        return self.stride**2 * int(self.source.shape[3])

    @property
    def dtype(self) -> str:
        """What input and weight are stored as; sums are float32, of bytes int32."""
        return str(self.source.dtype)

    @property
    def filters(self) -> list[Filter]:
        """The filters with few enough multiplications."""
        return _filters(self.kernel, self.stride, self.dtype)

    @property
    def gains_most(self) -> bool:
        """Whether no other algorithm may be expected to take as few instructions.

        The transforms are of each channel, to and from, and the last tiles may be cut off.
        """
        _, height, width, channels = (int(n) for n in self.result.shape)
        if min(channels, int(self.source.shape[3])) < LEAST_CHANNELS:
            return False
        direct = self.kernel**2 * height * width
        return any(
            MAX_RATIO_OF_TILES * direct
            >= (each.size * self.stride) ** 2 * -(-height // each.tile) * -(-width // each.tile)
            for each in self.filters
        )

    def filtering(self, tile: int) -> Filter:
        """Return the filter of tiles of `tile` x `tile` outputs."""
        return next(each for each in self.filters if each.tile == tile)


def match(func: PrimFunc, dtype: str = "float32") -> Convolution | None:
    """Match `func` as a convolution for the algorithm; None if it is not one.

    Parameters
    ----------
    func
        A fused PrimFunc.
    dtype
        What its input and its weight are stored as. Its sums are float32; of bytes int32.
    """
    work = contraction(func)
    if work is None or work.depthwise or work.groups != 1 or work.weight_parameter is None:
        return None
    if len(work.positions) != 3 or len(work.reduction) != 3:
        return None
    order = (work.channel, *work.reduction)
    if work.weight_axes != order or work.positions != (0, 1, 2) or work.channel != 3:
        return None
    kernel, across = (work.extents[axis] for axis in work.reduction[:2])
    if kernel != across:
        return None
    sch = analysis.inspect(func)
    main = sch.get_sblock(work.block)
    block = sch.get(main)
    sums = "int32" if dtype == BYTES else "float32"
    if str(block.writes[0].source.dtype) != sums or not _multiplies(block, dtype):
        return None
    source = block.reads[work.input_read].source
    stride = _stride(block, source, work)
    if stride is None or not _filters(kernel, stride, dtype):
        return None
    producers = sch.get_producers(main)
    if not producers:
        before: _Padding | None = _Padding(source)
    else:
        before = _padding(sch, producers) if len(producers) == 1 else None
    if before is None or not _is_parameter(before.source, func, dtype):
        return None
    if before.value and dtype != BYTES:
        return None
    return Convolution(
        block=work.block,
        source=before.source,
        result=block.writes[0].source,
        weight_parameter=work.weight_parameter,
        kernel=kernel,
        stride=stride,
        padding=before.sizes,
        padding_block=before.block,
        padding_value=before.value,
    )


def _multiplies(block: Any, dtype: str) -> bool:
    """Whether both factors are read as they are: casts of integers are exact, transforms not."""
    loads = [_load(factor) for factor in _factors(block)]
    return len(loads) == 2 and all(
        load is not None and str(load.source.dtype) == dtype for load in loads
    )


def _factors(block: Any) -> tuple[Any, ...]:
    product = block.body.value.b
    return (product.a, product.b) if isinstance(product, tirx.Mul) else ()


def _load(factor: Any) -> Any | None:
    """The load of a factor, which may be of float16 or of bytes and then cast to a sum's dtype."""
    if isinstance(factor, tirx.Cast) and str(factor.value.ty.dtype) in ("float16", BYTES):
        factor = factor.value
    return factor if isinstance(factor, tvm.ir.TensorLoad) else None


def _filters(kernel: int, stride: int, dtype: str) -> list[Filter]:
    if dtype == BYTES:
        return [FILTERING] if (kernel, stride) == (FILTERING.kernel_size, 1) else []
    if stride > MAX_STRIDE:
        return []
    direct = kernel**2

    def products(filtering: Filter) -> float:
        return (filtering.size * stride / filtering.tile) ** 2

    found = [f for f in filters(-(-kernel // stride)) if products(f) <= MAX_PRODUCT_RATIO * direct]
    return [f for f in found if dtype != "float16" or f in FILTERS_IN_HALF]


@dataclass(frozen=True)
class _Padding:
    """What is in front of a convolution: its source, and how and with what that is padded."""

    source: Any
    sizes: tuple[int, int] = (0, 0)
    block: str | None = None
    value: float = 0


def _padding(sch: Any, producers: Sequence[Any]) -> _Padding | None:
    """The padding by a block; None if it is anything else."""
    block = sch.get(producers[0])
    value: float | None
    if analysis.is_identity_copy(block):
        load, value = block.body.value, 0
    else:
        value = analysis.padding_value(block)
        if value is None:
            return None
        load = block.body.value.args[1]
    offsets = _indices_at(load.indices, block, ())
    if offsets[0] or offsets[3] or max(offsets[1:3]) > 0:
        return None
    for axis in range(len(block.iter_vars)):
        moved = _indices_at(load.indices, block, (axis,))
        if [m - o for m, o in zip(moved, offsets, strict=True)] != [
            int(d == axis) for d in range(4)
        ]:
            return None
    return _Padding(load.source, (-offsets[1], -offsets[2]), str(block.name_hint), value)


def _is_parameter(source: Any, func: PrimFunc, dtype: str) -> bool:
    return str(source.dtype) == dtype and any(p.same_as(source) for p in func.params)


def _stride(block: Any, source: Any, work: Contraction) -> int | None:
    """The stride, if input indices are output position times stride plus kernel position."""
    loads = [load for load in map(_load, _factors(block)) if load is not None]
    load = next(load for load in loads if load.source.same_as(source))
    batch, height, width = work.positions
    down, across, depth = work.reduction
    stride = _indices_at(load.indices, block, (height,))[1]
    steps = {
        batch: (1, 0, 0, 0),
        height: (0, stride, 0, 0),
        width: (0, 0, stride, 0),
        down: (0, 1, 0, 0),
        across: (0, 0, 1, 0),
        depth: (0, 0, 0, 1),
    }
    if any(_indices_at(load.indices, block, ())):
        return None
    fits = all(
        _indices_at(load.indices, block, (axis,)) == list(step) for axis, step in steps.items()
    )
    return stride if fits and stride > 0 else None


def _indices_at(indices: Sequence[Any], block: Any, ones: tuple[int, ...]) -> list[int]:
    """The values of the indices where the axes in `ones` are 1 and all others 0."""
    analyzer = Analyzer()
    for number, variable in enumerate(block.iter_vars):
        analyzer.bind(variable.var, tirx.IntImm(variable.dom.extent.ty.dtype, int(number in ones)))
    return [int(analyzer.simplify(index)) for index in indices]

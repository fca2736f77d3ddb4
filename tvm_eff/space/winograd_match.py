"""Which kernels are 3x3 convolutions of stride 1, as Winograd's algorithm needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.sym import Analyzer
from tvm.tirx import PrimFunc

from tvm_eff.space import structure
from tvm_eff.space.structure import Contraction, contraction
from tvm_eff.space.winograd_transforms import KERNEL


@dataclass(frozen=True)
class Convolution3x3:
    """A convolution that Winograd's algorithm computes.

    Attributes
    ----------
    block
        The name of the block that multiplies.
    source
        The buffer before padding: [batch, height, width, input channel].
    result
        The buffer of the sums: [batch, height, width, output channel].
    weight_parameter
        Which parameter the weight is: [output channel, 3, 3, input channel].
    padding
        Zeros above and to the left.
    padding_block
        The name of the block that pads, if there is one.
    """

    block: str
    source: Any
    result: Any
    weight_parameter: int
    padding: tuple[int, int]
    padding_block: str | None


def match(func: PrimFunc) -> Convolution3x3 | None:
    """Return the 3x3 convolution of stride 1 that `func` is, or None."""
    work = contraction(func)
    if work is None or work.depthwise or work.groups != 1 or work.weight_parameter is None:
        return None
    if len(work.positions) != 3 or len(work.reduction) != 3:
        return None
    order = (work.channel, *work.reduction)
    if work.weight_axes != order or work.positions != (0, 1, 2) or work.channel != 3:
        return None
    if tuple(work.extents[axis] for axis in work.reduction[:2]) != (KERNEL, KERNEL):
        return None
    sch = structure.inspect(func)
    main = sch.get_sblock(work.block)
    block = sch.get(main)
    source = block.reads[work.input_read].source
    if not _is_sliding(block, source, work):
        return None
    result = block.writes[0].source
    producers = sch.get_producers(main)
    if not producers:
        if not _is_float32_parameter(source, func):
            return None
        return Convolution3x3(work.block, source, result, work.weight_parameter, (0, 0), None)
    if len(producers) != 1:
        return None
    padding = sch.get(producers[0])
    load = _padded_load(padding)
    if load is None or not _is_float32_parameter(load.source, func):
        return None
    offsets = _at(load.indices, padding, ())
    if offsets[0] or offsets[3] or max(offsets[1:3]) > 0:
        return None
    return Convolution3x3(
        work.block,
        load.source,
        result,
        work.weight_parameter,
        (-offsets[1], -offsets[2]),
        str(padding.name_hint),
    )


def _is_float32_parameter(source: Any, func: PrimFunc) -> bool:
    return str(source.dtype) == "float32" and any(p.same_as(source) for p in func.params)


def _is_sliding(block: Any, source: Any, work: Contraction) -> bool:
    """Whether the input's index is output position plus kernel position."""
    load = next(x for x in (block.body.value.b.a, block.body.value.b.b) if x.source.same_as(source))
    batch, height, width = work.positions
    down, across, depth = work.reduction
    wanted = {batch: 0, height: 1, width: 2, down: 1, across: 2, depth: 3}
    if any(_at(load.indices, block, ())):
        return False
    for axis, dimension in wanted.items():
        unit = [int(d == dimension) for d in range(4)]
        if _at(load.indices, block, (axis,)) != unit:
            return False
    return True


def _padded_load(block: Any) -> Any | None:
    """The load of a block that pads with zeros, or that only copies."""
    if not isinstance(block.body, tirx.BufferStore):
        return None
    value = block.body.value
    if isinstance(value, tvm.ir.TensorLoad):
        return value
    if not isinstance(value, tvm.ir.Call) or not str(value.op.name).endswith("if_then_else"):
        return None
    _, load, other = value.args
    if not isinstance(load, tvm.ir.TensorLoad) or float(getattr(other, "value", 1)) != 0:
        return None
    return load


def _at(indices: Sequence[Any], block: Any, ones: tuple[int, ...]) -> list[int]:
    """The indices where the named axes are 1 and all others 0."""
    analyzer = Analyzer()
    for number, variable in enumerate(block.iter_vars):
        analyzer.bind(variable.var, tirx.IntImm(variable.dom.extent.ty.dtype, int(number in ones)))
    return [int(analyzer.simplify(index)) for index in indices]

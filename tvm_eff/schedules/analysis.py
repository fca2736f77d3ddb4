"""Analysis of a fused PrimFunc: its blocks, its reductions and its contractions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc
from tvm_ffi.serialization import from_json_graph_str, to_json_graph_str

SPATIAL = tirx.IterVar.DataPar
REDUCTION = tirx.IterVar.CommReduce


@dataclass(frozen=True)
class Contraction:
    """The multiply-accumulate block of a convolution or a dense layer.

    Axes are numbered as in the block. Every output element is a sum over the
    `reduction` axes of an input element times a weight.

    Attributes
    ----------
    block
        The block's name.
    positions
        Axes of the output that the weight does not depend on: batch, height, width.
    channel
        The axis of the output channels, the output's last.
    reduction
        Axes summed over: kernel height and width, input channel.
    extents
        The extent of every axis.
    input_read, weight_read
        Indices of the input and of the weight among the block's reads.
    weight_axes
        For each dimension of the weight, the axis that indexes it.
    weight_parameter
        Index of the weight among the function's parameters if its layout is free
        to choose (``layout_free_buffers``); otherwise None.
    groups
        Number of groups of the output channels.
    depthwise
        Whether each output channel reads one input channel.
    input_shape
        The shape of the input as the block reads it, padded.
    """

    block: str
    positions: tuple[int, ...]
    channel: int
    reduction: tuple[int, ...]
    extents: tuple[int, ...]
    input_read: int
    weight_read: int
    weight_axes: tuple[int, ...]
    weight_parameter: int | None
    groups: int
    depthwise: bool
    input_shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.extents[self.channel]

    @property
    def width(self) -> int:
        """Extent of the innermost position axis."""
        return self.extents[self.positions[-1]] if self.positions else 1

    @property
    def depth(self) -> int:
        """Extent of the innermost reduction axis."""
        return self.extents[self.reduction[-1]]


def inspect(func: PrimFunc) -> Schedule:
    """Return a schedule of `func` for analysis only; it must not be transformed."""
    return Schedule(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}))


def schedule(func: PrimFunc) -> Schedule:
    """Return a schedule of a copy of `func`, under the name ``main``.

    TVM 0.27 applies some primitives in place to the function it was given: the next
    schedule of the same function would start from the transformed one.
    """
    mod = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    # Not tvm.ir.load_json: its upgrade of older formats takes most of the time.
    return Schedule(from_json_graph_str(to_json_graph_str(mod)))


def blocks(sch: Schedule) -> list[Any]:
    """Return the child blocks of the root in program order."""
    root = sch.get_sblock("root")
    return list(sch.get_child_blocks(root))


def is_reduction(block: Any) -> bool:
    """Whether `block` (a statement) has a reduction axis."""
    return any(v.iter_type == REDUCTION for v in block.iter_vars)


def is_leaf(sch: Schedule, block: Any) -> bool:
    """Whether `block` has no nested blocks."""
    return not sch.get_child_blocks(block)


def iterations(sch: Schedule, block: Any) -> int:
    """Return the size of the iteration domain of `block`."""
    return prod(int(v.dom.extent) for v in sch.get(block).iter_vars)


def reduction_extent(sch: Schedule, block: Any) -> int:
    """Return how many values each output element of a reduction block combines."""
    reduced = [v for v in sch.get(block).iter_vars if v.iter_type == REDUCTION]
    return prod(int(v.dom.extent) for v in reduced)


def is_identity_copy(block: Any) -> bool:
    """Whether `block` only copies elements, as padding of width zero does."""
    return isinstance(block.body, tirx.BufferStore) and isinstance(
        block.body.value, tvm.ir.TensorLoad
    )


def is_padding(block: Any) -> bool:
    """Whether `block` pads its input with zeros."""
    return padding_value(block) == 0


def padding_value(block: Any) -> float | None:
    """Return the number that `block` pads its input with; None if it does not."""
    value = block.body.value if isinstance(block.body, tirx.BufferStore) else None
    if not isinstance(value, tvm.ir.Call) or not str(value.op.name).endswith("if_then_else"):
        return None
    _, load, other = value.args
    known = isinstance(load, tvm.ir.TensorLoad) and isinstance(other, tirx.IntImm | tirx.FloatImm)
    return other.value if known else None


def reductions(sch: Schedule) -> list[Any]:
    """Return the reduction blocks in program order."""
    return [b for b in blocks(sch) if is_reduction(sch.get(b))]


def epilogue(sch: Schedule, block: Any) -> list[Any] | None:
    """Return the elementwise consumers of `block`, transitively, in program order.

    The last one writes the output. They may read one another more than once, as
    ``x * sigmoid(x)`` does.

    Returns
    -------
    list of BlockRV or None
        None if `block` has other consumers: another reduction, or several outputs.
    """
    consumers: set[str] = set()
    pending = [block]
    while pending:
        for consumer in sch.get_consumers(pending.pop()):
            statement = sch.get(consumer)
            if is_reduction(statement):
                return None
            if str(statement.name_hint) not in consumers:
                consumers.add(str(statement.name_hint))
                pending.append(consumer)
    ordered = [b for b in blocks(sch) if str(sch.get(b).name_hint) in consumers]
    writers = [b for b in (block, *ordered) if writes_output(sch, b)]
    if len(writers) != 1 or not same_block(sch, writers[0], (block, *ordered)[-1]):
        return None
    return ordered


def writes_output(sch: Schedule, block: Any) -> bool:
    """Whether `block` writes a parameter of the function."""
    params = list(sch.mod["main"].params)
    written = [region.source for region in sch.get(block).writes]
    return any(w.same_as(p) for w in written for p in params)


def same_block(sch: Schedule, one: Any, other: Any) -> bool:
    """Whether two handles (BlockRV) refer to the same block."""
    return bool(sch.get(one).same_as(sch.get(other)))


def contraction(func: PrimFunc) -> Contraction | None:
    """Return the contraction of `func`, or None if it does not have exactly one."""
    found = contractions(func)
    return found[0] if len(found) == 1 else None


def contractions(func: PrimFunc) -> list[Contraction]:
    """Return the contractions of `func` in program order.

    Returns
    -------
    list of Contraction
        Empty if `func` has any other reduction, or if the consumers of the last
        contraction are more than an elementwise epilogue.
    """
    sch = inspect(func)
    blocks_of = reductions(sch)
    if not blocks_of or epilogue(sch, blocks_of[-1]) is None:
        return []
    found = []
    for each in map(sch.get, blocks_of):
        operands = _operands(each)
        work = None if operands is None else _roles(func, each, operands)
        if work is None:
            return []
        found.append(work)
    return found


def multiply_adds(func: PrimFunc) -> int:
    """Return how many multiply-adds the direct computation of `func` takes."""
    return sum(prod(work.extents) for work in contractions(func))


def _operands(block: Any) -> tuple[Any, Any] | None:
    """The two loads of ``c[...] = c[...] + a[...] * b[...]``, through casts."""
    store = block.body
    if not isinstance(store, tirx.BufferStore) or not isinstance(store.value, tirx.Add):
        return None
    if not all(isinstance(v.dom.extent, tirx.IntImm) for v in block.iter_vars):
        return None
    product = _uncast(store.value.b)
    if not isinstance(product, tirx.Mul):
        return None
    factors = _uncast(product.a), _uncast(product.b)
    return factors if all(isinstance(x, tvm.ir.TensorLoad) for x in factors) else None


def _uncast(value: Any) -> Any:
    """The operand below any casts, as of float16 values summed in float32."""
    return _uncast(value.value) if isinstance(value, tirx.Cast) else value


def _axes_of(expression: Any, axes: dict[Any, int]) -> set[int]:
    return {axes[v] for v in tirx.analysis.undefined_vars(expression) if v in axes}


def _roles(func: PrimFunc, block: Any, operands: tuple[Any, Any]) -> Contraction | None:
    axes = {v.var: i for i, v in enumerate(block.iter_vars)}
    extents = tuple(int(v.dom.extent) for v in block.iter_vars)
    spatial = [i for i, v in enumerate(block.iter_vars) if v.iter_type == SPATIAL]
    reduction = tuple(i for i, v in enumerate(block.iter_vars) if v.iter_type == REDUCTION)
    used = [[_axes_of(index, axes) for index in load.indices] for load in operands]
    weight = _weight_operand(used, set(reduction), spatial)
    if weight is None:
        return None
    source = operands[weight].source
    weight_axes = [min(u) if len(u) == 1 else -1 for u in used[weight]]
    channel = spatial[-1]
    if -1 in weight_axes or channel not in weight_axes:
        return None
    innermost = used[1 - weight][-1]
    depth = extents[reduction[-1]]
    input_channels = int(operands[1 - weight].source.shape[-1])
    depthwise = channel in innermost and depth == 1
    grouped = channel in innermost and not depthwise
    if depthwise and input_channels != extents[channel]:
        return None
    params = list(func.params)
    free = {int(i) for i in (func.attrs.get("layout_free_buffers") or [])} if func.attrs else set()
    order = [region.source for region in block.reads]
    return Contraction(
        block=str(block.name_hint),
        positions=tuple(i for i in spatial if i != channel),
        channel=channel,
        reduction=reduction,
        extents=extents,
        input_read=_index_of(order, operands[1 - weight].source),
        weight_read=_index_of(order, source),
        weight_axes=tuple(weight_axes),
        weight_parameter=next((i for i in free if params[i].same_as(source)), None),
        groups=input_channels // depth if grouped else 1,
        depthwise=depthwise,
        input_shape=tuple(int(n) for n in operands[1 - weight].source.shape),
    )


def _weight_operand(
    used: list[list[set[int]]], reduction: set[int], spatial: list[int]
) -> int | None:
    """The operand indexed by the output channel and by no output position."""
    for operand in (1, 0):
        axes = set().union(*used[operand])
        if spatial[-1] in axes and not (axes - reduction - {spatial[-1]}):
            return operand
    return None


def _index_of(buffers: list[Any], wanted: Any) -> int:
    return next(i for i, buffer in enumerate(buffers) if buffer.same_as(wanted))

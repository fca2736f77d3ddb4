"""Convolution and dense layers of bytes: a register tile whose multiply-adds are dot products.

As :mod:`tvm_eff.schedules.cpu.convolution`, with four input channels at once: the accumulators
are integers of 32 bits, and the weights are packed as
[channel block][kernel][input channels by four][channel in block][input channel of four].
"""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import fusion
from tvm_eff.schedules.analysis import Contraction, contraction, inspect
from tvm_eff.schedules.cpu import dot_product_shapes, dot_products
from tvm_eff.schedules.cpu.contraction import bias_decision, inline_and_pack, start_from_bias
from tvm_eff.schedules.cpu.convolution import CHANNELS_INNER, CHANNELS_OUTER, Tile, tiles
from tvm_eff.schedules.cpu.dot_products import DotProduct
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, sample, vector_length
from tvm_eff.targets import Target

_MOST_TILES = 24
_BYTES = 16


class DotProductTile:
    """The rule for standard convolution and dense layers of bytes."""

    name = "dot_product_tile"
    version = 2

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers in both loop orders, lowest cost first."""
        matched = ((each, match(func, each)) for each in dot_products.all_of_target(target))
        product, work = next((pair for pair in matched if pair[1]), (None, None))
        if product is None or work is None:
            return []
        if dot_products.broadcasts_from_memory(product):
            shapes = tiles(work.width, work.channels, work.depth // product.length, target)
            found = [tile for tile in shapes if _fits(tile, work, product, target)]
        else:
            found = dot_product_shapes.tiles(work, product, target)
        whole = [tile for tile in found if tile.lanes == product.lanes][:_MOST_TILES]
        bias = bias_decision(func, work, target)
        return [
            Candidate.of(
                self.name,
                {
                    "rows": tile.rows,
                    "columns": tile.columns,
                    "unroll": tile.unroll,
                    "order": order,
                    **dot_products.decision(product),
                    **bias,
                },
            )
            for tile in whole
            for order in _orders(work, target)
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        product = dot_products.of_candidate(candidate)
        return packings_for(contraction(func), candidate["columns"], product)

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as one register tile inside parallel loops."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        work = start_from_bias(sch, work, candidate)
        product = dot_products.of_candidate(candidate)
        packings = packings_for(work, candidate["columns"], product)
        main, last, paddings = inline_and_pack(sch, work, packings)
        for padding in paddings:
            fusion.schedule_elementwise(sch, padding, target.hardware.lanes)
        _schedule_tile(sch, main, last, work, candidate)


def _fits(tile: Tile, work: Contraction, product: DotProduct, target: Target) -> bool:
    weights = tile.vectors * product.weight_registers
    # Without a loop over input channels, LLVM unrolls a row of the kernel, and keeps what
    # neighbouring positions read of it.
    is_image = work.depth == product.length and len(work.reduction) > 1
    inputs = tile.rows + 1 if is_image else 1
    used = tile.accumulators + weights + inputs + product.spare
    return used <= target.hardware.vector_registers


def match(func: PrimFunc, product: DotProduct) -> Contraction | None:
    """Return the contraction of a function that an instruction computes; None if it does not."""
    work = contraction(func)
    if work is None or work.depthwise or work.groups != 1 or work.weight_parameter is None:
        return None
    sch = inspect(func)
    block = sch.get(sch.get_sblock(work.block))
    read = [str(block.reads[each].source.dtype) for each in (work.input_read, work.weight_read)]
    if read != [product.inputs, product.weights] or str(block.writes[0].source.dtype) != "int32":
        return None
    # The bytes of a product are input channels: they are the innermost dimension of the input.
    whole = work.depth % product.length == 0 and work.channels % product.lanes == 0
    return work if whole else None


def _orders(work: Contraction, target: Target) -> list[int]:
    rows = 1
    for axis in work.positions[:-1]:
        rows *= work.extents[axis]
    if rows < target.hardware.cores:
        return [CHANNELS_OUTER]
    return [CHANNELS_INNER, CHANNELS_OUTER]


def packings_for(work: Contraction | None, columns: int, product: DotProduct) -> list[Packing]:
    """Return the weight's layout for tiles of `columns` channels."""
    assert work is not None, "the workload was matched when the candidate was made"
    assert work.weight_parameter is not None, "its layout is free"
    packing = Packing(
        parameter=work.weight_parameter,
        channel=work.weight_axes.index(work.channel),
        order=tuple(work.weight_axes.index(axis) for axis in work.reduction),
        block=columns,
        inner=product.length,
        part=product.part,
        lanes=product.lanes if product.part < product.length else 1,
    )
    return [packing]


def _schedule_tile(
    sch: Schedule, main: Any, last: Any, work: Contraction, candidate: Candidate
) -> None:
    product = dot_products.of_candidate(candidate)
    loops = sch.get_loops(main)
    *kernel, depth = (loops[axis] for axis in work.reduction)
    outer = [loops[axis] for axis in work.positions[:-1]]
    x, channel = loops[work.positions[-1]], loops[work.channel]
    uneven = work.width % candidate["rows"]
    rows = sample(sch, [1, 2, 4, 8], candidate["rows"])
    vectors = sample(sch, [1, 2, 4], candidate["columns"] // product.lanes)
    unroll = sample(sch, [1, 2], candidate["unroll"])
    order = candidate["order"]
    sample(sch, [CHANNELS_INNER, CHANNELS_OUTER], order)

    # The instruction's block comes first: inside of a tile that does not divide the width there
    # is a predicate, under which nothing is tensorized.
    f_blocks, f_lanes = sch.split(channel, [None, product.lanes])
    k_blocks, k_lanes = sch.split(depth, [None, product.length])
    sch.reorder(*outer, x, f_blocks, *kernel, k_blocks, f_lanes, k_lanes)
    if dot_products.broadcasts_from_memory(product):
        held = None
    else:
        held = sch.cache_read(main, work.input_read, "global", consumer_blocks=[main])
    products = sch.blockize(f_lanes)
    x_outer, x_inner = sch.split(x, [None, rows])
    f_outer, f_vectors = sch.split(f_blocks, [None, vectors])
    k_outer, k_inner = sch.split(k_blocks, [None, unroll])
    inner = order == CHANNELS_INNER
    around = [*outer, x_outer, f_outer] if inner else [f_outer, *outer, x_outer]
    sch.reorder(*around, *kernel, k_outer, k_inner, x_inner, f_vectors)
    if held is not None:
        _hold_input(sch, held, k_outer)
    sch.reverse_compute_at(last, around[-1], preserve_unit_loops=True)
    # A vector of the bytes that a result may be.
    wide = vector_length(candidate["columns"], max(product.lanes, _BYTES))
    fusion.vectorize_tile(sch, fusion.loops_below(sch, last, around[-1]), wide)
    for loop in (k_inner, x_inner, f_vectors):
        sch.unroll(loop)
    if uneven:
        sch.annotate(x_outer, "pragma_loop_partition_hint", 1)
    sch.parallel(sch.fuse(*(outer if inner else [f_outer, *outer])))
    start = sch.decompose_reduction(products, kernel[0] if kernel else k_outer)
    for loop in sch.get_loops(start)[-2:]:
        sch.unroll(loop)
    (zeros,) = sch.get_child_blocks(start)
    sch.vectorize(sch.get_loops(zeros)[-1])
    (update,) = sch.get_child_blocks(products)
    _forget_bias(sch, update)
    # The loop and not the block, which the predicate is on.
    sch.tensorize(sch.get_loops(update)[-2], dot_products.register(product))


def _hold_input(sch: Schedule, held: Any, loop: Any) -> None:
    """Read the tile's input as vectors along the channels, of which LLVM takes lanes."""
    sch.compute_at(held, loop)
    *rows, depth = fusion.loops_below(sch, held, loop)
    sch.vectorize(depth)
    for row in rows:
        sch.unroll(row)


def _forget_bias(sch: Schedule, update: Any) -> None:
    """Take the bias, which the start of the sums reads, out of what the products say they read."""
    block = sch.get(update)
    sums = block.writes[0].source
    reads = [region.source for region in block.reads]
    wide = [i for i, each in enumerate(reads) if each.dtype == sums.dtype]
    bias = [i for i in wide if not reads[i].same_as(sums)]
    if bias:
        sch.unsafe_hide_buffer_access(update, "read", bias)

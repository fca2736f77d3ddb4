"""Depthwise convolution of bytes, all products of a position's kernel at once.

As :mod:`tvm_eff.schedules.cpu.depthwise`, with the instructions of
:mod:`tvm_eff.schedules.cpu.kernel_products` for a vector of channels: what neighbouring positions
read is loaded and widened once, and the kernel stays in registers for a row.
"""

from __future__ import annotations

from typing import Any

from tvm import sym
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.cpu import kernel_products
from tvm_eff.schedules.cpu.contraction import inline_and_pack, row_chunks
from tvm_eff.schedules.cpu.depthwise import pad_inside
from tvm_eff.schedules.cpu.kernel_products import KernelProducts
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import Target

MAX_ROWS, MAX_VECTORS = 8, 4

MIN_CONTIGUOUS_BYTES = 32
"""With 16 channels kernels of MobileNet took 1.0 to 1.2 times as long on an AVX-512 host."""

_EPILOGUE = 8
"""Instructions that make a vector of bytes of sums."""


class DepthwiseBytes:
    """The rule for depthwise convolution of bytes with a kernel of 3 x 3 or 5 x 5."""

    name = "depthwise_bytes"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles, those with the least to load and the fewest idle positions first."""
        matched = ((each, _match(func, each)) for each in kernel_products.of_target(target))
        products, work = next((pair for pair in matched if pair[1]), (None, None))
        if products is None or work is None:
            return []
        return [
            Candidate.of(
                self.name,
                {
                    "rows": rows,
                    "columns": columns,
                    "block_rows": block_rows,
                    "instruction": products.number,
                },
            )
            for rows, columns, block_rows in _tiles(work, products, target)
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return [_packing(contraction(func), candidate)]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as register tiles along the output rows."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        products = kernel_products.of_number(candidate["instruction"])
        main, last, paddings = inline_and_pack(sch, work, [_packing(work, candidate)])
        _schedule_tile(sch, main, last, paddings, work, candidate, products)


def _packing(work: Contraction | None, candidate: Candidate) -> Packing:
    """Return the weight's layout: a kernel's elements are vectors beside one another."""
    assert work is not None, "the workload was matched when the candidate was made"
    assert work.weight_parameter is not None, "its layout is free"
    down, across, depth = work.reduction
    return Packing(
        parameter=work.weight_parameter,
        channel=work.weight_axes.index(work.channel),
        order=tuple(work.weight_axes.index(axis) for axis in (depth, down, across)),
        block=kernel_products.of_number(candidate["instruction"]).lanes,
    )


def _kernel(work: Contraction) -> tuple[int, int]:
    down, across, _ = (work.extents[axis] for axis in work.reduction)
    return down, across


def _match(func: PrimFunc, products: KernelProducts) -> Contraction | None:
    work = contraction(func)
    if work is None or not work.depthwise or work.weight_parameter is None:
        return None
    if len(work.positions) != 3 or len(work.reduction) != 3 or work.channels % products.lanes:
        return None
    if _kernel(work) not in kernel_products.KERNELS or _is_dilated(func, work):
        return None
    sch = analysis.inspect(func)
    block = sch.get(sch.get_sblock(work.block))
    read = [str(block.reads[each].source.dtype) for each in (work.input_read, work.weight_read)]
    sums = str(block.writes[0].source.dtype)
    return work if [*read, sums] == [products.inputs, "int8", "int32"] else None


def _is_dilated(func: PrimFunc, work: Contraction) -> bool:
    """Whether elements that the kernel reads are no neighbours."""
    sch = analysis.inspect(func)
    block = sch.get(sch.get_sblock(work.block))
    indices = [each.min for each in block.reads[work.input_read].region[-3:-1]]
    for index, axis in zip(indices, work.reduction, strict=False):
        found = sym.detect_linear_equation(index, [block.iter_vars[axis].var])
        if not found or int(found[0]) != 1:
            return True
    return False


def _tiles(
    work: Contraction, products: KernelProducts, target: Target
) -> list[tuple[int, int, int]]:
    """Positions and channels of a tile, and the output rows padded at once."""
    height = work.extents[work.positions[-2]]
    chunk = height // row_chunks(work, target)
    found = [
        (rows, vectors * products.lanes, block_rows)
        for vectors in range(1, MAX_VECTORS + 1)
        if work.channels % (vectors * products.lanes) == 0
        for rows in range(1, min(work.width, MAX_ROWS) + 1)
        if products.fits(rows, vectors, _kernel(work), target.hardware.vector_registers)
        for block_rows in divisors(chunk, chunk)
    ]
    return sorted(found, key=lambda tile: _cost(tile, work, products, target))


def _cost(
    tile: tuple[int, int, int], work: Contraction, products: KernelProducts, target: Target
) -> float:
    """Estimate the instructions for a vector of outputs, weighted by what does not fit a cache."""
    rows, columns, block_rows = tile
    down, across = _kernel(work)
    in_width = work.input_shape[2]
    height = work.extents[work.positions[-2]]
    stride = max(1, round(in_width / work.width))
    read = (rows - 1) * stride + across
    loads = products.column * down * read / rows
    tail = -(-work.width // rows) * rows / work.width
    input_rows = (block_rows - 1) * stride + down
    copies = 2 * input_rows * in_width / (block_rows * work.width)
    padded = input_rows * in_width * columns
    stalls = 1.0 if padded <= target.hardware.l1d_kib * 1024 / 2 else 1.1
    stalls *= 1.0 if columns >= MIN_CONTIGUOUS_BYTES else 1.2
    parts = work.channels // columns * (height // block_rows)
    cores = target.hardware.cores
    idle = -(-parts // cores) * cores / parts
    return (loads * tail + _EPILOGUE + copies) * stalls * idle


def _schedule_tile(
    sch: Schedule,
    main: Any,
    last: Any,
    paddings: list[Any],
    work: Contraction,
    candidate: Candidate,
    products: KernelProducts,
) -> None:
    lanes = products.lanes
    loops = sch.get_loops(main)
    outer, y, x = (loops[axis] for axis in work.positions)
    rows = sample(sch, [1, 2, 4, 8], candidate["rows"])
    vectors = sample(sch, [1, 2, 4], candidate["columns"] // lanes)
    block_rows = sample(sch, [1, 2, 4, 8], candidate["block_rows"])

    # The instructions' block comes first: inside of a tile that does not divide the width there
    # is a predicate, under which nothing is tensorized.
    f_blocks, f_lanes = sch.split(loops[work.channel], [None, lanes])
    down, across, depth = (loops[axis] for axis in work.reduction)
    sch.reorder(outer, y, x, f_blocks, depth, down, across, f_lanes)
    summed = sch.blockize(down)
    row_blocks, y_inner = sch.split(y, [None, block_rows])
    x_outer, x_inner = sch.split(x, [None, rows])
    f_outer, f_vectors = sch.split(f_blocks, [None, vectors])
    sch.reorder(outer, row_blocks, f_outer, y_inner, x_outer, depth, x_inner, f_vectors)
    for padding in paddings:
        pad_inside(sch, padding, f_outer, candidate["columns"])
    sch.reverse_compute_at(last, x_outer, preserve_unit_loops=True)
    fusion.vectorize_tile(sch, fusion.loops_below(sch, last, x_outer), lanes)
    for loop in (x_inner, f_vectors):
        sch.unroll(loop)
    if work.width % candidate["rows"]:
        sch.annotate(x_outer, "pragma_loop_partition_hint", 1)
    sch.parallel(sch.fuse(outer, row_blocks, f_outer))
    start = sch.decompose_reduction(summed, depth)
    for loop in sch.get_loops(start)[-2:]:
        sch.unroll(loop)
    (zeros,) = sch.get_child_blocks(start)
    sch.vectorize(sch.get_loops(zeros)[-1])
    (update,) = sch.get_child_blocks(summed)
    # The loop and not the block, which the predicate is on.
    sch.tensorize(sch.get_loops(update)[-3], kernel_products.register(products, _kernel(work)))

"""The steps of scheduling Winograd's algorithm, but for its products."""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule

from tvm_eff.schedules import fusion
from tvm_eff.schedules.cpu.row_blocks import split_into_row_blocks
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, sample, split_vector
from tvm_eff.schedules.winograd import rewrite as algorithm
from tvm_eff.schedules.winograd.division import WHOLE
from tvm_eff.schedules.winograd.exact_division import LANES
from tvm_eff.schedules.winograd.rewrite_bytes import QUOTIENT
from tvm_eff.targets import Target


def schedule_result(
    sch: Schedule, candidate: Candidate, target: Target, division: str | None = None
) -> tuple[Any, Any, Any]:
    """Pack the weight, tile what writes the result, and cache the writes of the products.

    Parameters
    ----------
    sch
        The schedule.
    candidate
        The decisions.
    target
        The target as the kernel sees it.
    division
        The tensor intrinsic that divides results, if they are to be divided.

    Returns
    -------
    tuple
        The parallel loop, the contraction block, and its cache write.
    """
    _pack_weight(sch, candidate)
    if division is None:
        sch.compute_inline(sch.get_sblock(algorithm.OUTPUT))
    part, vectors, rows = _split_result(sch, _inline_result(sch), candidate, target)
    if division is not None:
        _divide(sch, rows, division)
    _compute_columns(sch, vectors)
    return part, *_write_products(sch, candidate)


def _pack_weight(sch: Schedule, candidate: Candidate) -> None:
    """Make the products read their weight from a packed copy."""
    product = sch.get_sblock(algorithm.PRODUCT)
    block, order = candidate["columns"], (1, 2, 3)
    packing = Packing(parameter=0, channel=0, order=order, block=block)
    copy = sch.cache_read(product, 1, "global")
    sch.transform_layout(product, ("read", 1), packing.index)
    sch.annotate(copy, "meta_schedule.layout_rewrite_preproc", True)


def _inline_result(sch: Schedule) -> Any:
    """Inline the epilogue into the block that writes the result."""
    result = sch.get_sblock(algorithm.RESULT)
    last = fusion.inline_epilogue(sch, result)
    if last is None:
        return result
    sch.compute_inline(result)
    return last


def _split_result(
    sch: Schedule, last: Any, candidate: Candidate, target: Target
) -> tuple[Any, Any, Any]:
    """Tile the loops of the block that writes the result.

    Returns
    -------
    tuple
        The parallel loop, the one over vectors of channels in a tile, and the one over its rows.
    """
    batch, y, x, f = sch.get_loops(last)
    tile = sample(sch, [2, 4], candidate["tile"])
    tile_rows = sample(sch, [WHOLE, 1], candidate["tile_rows"])
    columns = sample(sch, [target.hardware.lanes], candidate["columns"])
    y_tiles, y_inner = sch.split(y, [None, tile])
    x_tiles, x_inner = sch.split(x, [None, tile])
    blocks, f_inner = sch.split(f, [None, columns])
    vectors, f_lanes = sch.split(f_inner, [None, candidate["lanes"]])
    tail = [vectors, y_inner, x_inner, f_lanes]
    if candidate["tile_rows"] == WHOLE:
        sch.reorder(blocks, batch, y_tiles, x_tiles, *tail)
        part = blocks
    else:
        row_blocks, y_tiles = sch.split(y_tiles, [None, tile_rows])
        sch.reorder(batch, row_blocks, y_tiles, x_tiles, blocks, *tail)
        part = sch.fuse(batch, row_blocks)
    sch.parallel(part)
    for loop in (y_inner, x_inner):
        sch.unroll(loop)
    sch.vectorize(f_lanes)
    return part, vectors, y_inner


def _divide(sch: Schedule, rows: Any, division: str) -> None:
    """Transform rows of an output tile and divide them, one after the other."""
    quotient, output = sch.get_sblock(QUOTIENT), sch.get_sblock(algorithm.OUTPUT)
    for each in (quotient, output):
        sch.compute_at(each, rows, preserve_unit_loops=True)
    *outer, channels = fusion.loops_below(sch, quotient, rows)
    vectors, lanes = sch.split(channels, [None, LANES])
    for loop in (*outer, vectors):
        sch.unroll(loop)
    sch.tensorize(lanes, division)
    _unroll_vectors(sch, fusion.loops_below(sch, output, rows))


def _compute_columns(sch: Schedule, vectors: Any) -> None:
    """Transform columns of products at the loop over vectors of channels."""
    block = sch.get_sblock(algorithm.COLUMNS)
    sch.compute_at(block, vectors, preserve_unit_loops=True)
    _unroll_vectors(sch, fusion.loops_below(sch, block, vectors))


def _write_products(sch: Schedule, candidate: Candidate) -> tuple[Any, Any]:
    """Cache the writes of the products, in row blocks if there are any.

    Returns
    -------
    tuple
        The contraction block, and its cache write.
    """
    product = sch.get_sblock(algorithm.PRODUCT)
    positions = candidate["tile_rows"] * _tiles_across(sch)
    if positions:
        return product, split_into_row_blocks(sch, product, positions)
    return product, sch.cache_write(product, 0, "global")


def _tiles_across(sch: Schedule) -> int:
    """Output tiles per row."""
    columns = sch.get(sch.get_sblock(algorithm.COLUMNS)).writes[0].source
    return int(columns.shape[-2])


def transform_input(
    sch: Schedule, row_block: Any | None, lanes: int, copied: int | None = None
) -> None:
    """Transform the input at the loop over row blocks, or all of it first if there is none.

    Parameters
    ----------
    sch
        The schedule.
    row_block
        The loop over row blocks (LoopRV).
    lanes
        Elements of a vector, transformed.
    copied
        Elements of a vector as they are, if these are others.
    """
    copied = copied or lanes
    block, rows = sch.get_sblock(algorithm.INPUT), sch.get_sblock(algorithm.ROWS)
    padded = sch.get_sblock(algorithm.PADDED)
    if row_block is None:
        i, j, p, c = sch.get_loops(block)
    else:
        sch.compute_at(block, row_block, preserve_unit_loops=True)
        i, j, p, c = fusion.loops_below(sch, block, row_block)
    vectors, c_lanes = sch.split(c, [None, split_vector(int(sch.get(c).extent), lanes)])
    sch.reorder(p, vectors, i, j, c_lanes)
    sch.compute_at(rows, vectors, preserve_unit_loops=True)
    _unroll_vectors(sch, [i, j, c_lanes])
    _unroll_vectors(sch, fusion.loops_below(sch, rows, vectors))
    if row_block is None:
        sch.parallel(p)
        fusion.schedule_elementwise(sch, padded, copied)
    else:
        sch.compute_at(padded, row_block, preserve_unit_loops=True)
        _, _, x, *_, c = fusion.loops_below(sch, padded, row_block)
        length = split_vector(int(sch.get(c).extent), copied)
        _, c_lanes = sch.split(c, [None, length])
        sch.vectorize(c_lanes)
        sch.annotate(x, "pragma_loop_partition_hint", 1)


def _unroll_vectors(sch: Schedule, loops: list[Any]) -> None:
    *outer, inner = loops
    for loop in outer:
        sch.unroll(loop)
    sch.vectorize(inner)

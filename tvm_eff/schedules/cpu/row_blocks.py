"""Matrix products that are computed in blocks of rows (positions)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import IndexMap

ELEMENTS_PER_CYCLE = 4
"""Approximate float32 bandwidth of one core from beyond its L2 cache."""


def split_into_row_blocks(sch: Schedule, product: Any, block_positions: int) -> Any:
    """Add an outer dimension of row blocks to products, and cache their writes.

    No tile of positions then extends beyond the end of a block, neither into the rows of the
    next one, which another core may write, nor in TVM's region analysis of a tile.

    Parameters
    ----------
    sch
        The schedule.
    product
        The block (BlockRV) of the products: [..., position, channel], summed over one axis.
    block_positions
        Positions per row block; a divisor of all positions.

    Returns
    -------
    BlockRV
        The cache write; its first loop, and that of `product`, iterates over row blocks.
    """
    written = sch.cache_write(product, 0, "global")

    def divided(*index: Any) -> list[Any]:
        *outer, p, f = index
        return [p // block_positions, *outer, p % block_positions, f]

    def divided_sum(*index: Any) -> list[Any]:
        *position, k = index
        return [*divided(*position), k]

    # Blocks before buffers: TVM simplifies the indices only in this order.
    sch.transform_block_layout(product, _map(sch, product, divided_sum))
    of_positions = _map(sch, written, divided)
    sch.transform_block_layout(written, of_positions)
    sch.transform_layout(product, ("write", 0), of_positions)
    return written


def _map(sch: Schedule, block: Any, function: Callable[..., list[Any]]) -> IndexMap:
    """An index map with the block's number and dtype of indices."""
    variables = sch.get(block).iter_vars
    dtype = str(variables[0].dom.extent.ty.dtype)
    return IndexMap.from_func(function, ndim=len(variables), index_dtype=dtype)

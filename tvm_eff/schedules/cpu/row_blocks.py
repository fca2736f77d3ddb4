"""Products of a matrix that are computed band by band of their positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import IndexMap

ELEMENTS_PER_CYCLE = 4
"""What a core reads from beyond its second cache, about."""


def divide(sch: Schedule, product: Any, places: int) -> Any:
    """Give products a dimension of bands, and have them copied from registers.

    So no tile of positions reaches beyond the end of a band, neither into the rows of the
    next one, which another core may have written, nor in TVM's estimate of what a tile needs.

    Parameters
    ----------
    sch
        What to schedule.
    product
        The block (BlockRV) of the products: [..., position, channel], summed over one axis.
    places
        Positions in a band; they divide all of them.

    Returns
    -------
    BlockRV
        The block that copies; its first loop, and that of `product`, is the one over bands.
    """
    written = sch.cache_write(product, 0, "global")

    def divided(*index: Any) -> list[Any]:
        *outer, p, f = index
        return [p // places, *outer, p % places, f]

    def divided_sum(*index: Any) -> list[Any]:
        *position, k = index
        return [*divided(*position), k]

    # The blocks before the buffer: TVM simplifies the indices only in this order.
    sch.transform_block_layout(product, _map(sch, product, divided_sum))
    of_positions = _map(sch, written, divided)
    sch.transform_block_layout(written, of_positions)
    sch.transform_layout(product, ("write", 0), of_positions)
    return written


def _map(sch: Schedule, block: Any, function: Callable[..., list[Any]]) -> IndexMap:
    """A map of as many indices as the block has, of the same type."""
    variables = sch.get(block).iter_vars
    dtype = str(variables[0].dom.extent.ty.dtype)
    return IndexMap.from_func(function, ndim=len(variables), index_dtype=dtype)

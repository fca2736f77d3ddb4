"""What convolution, dense and depthwise schedules share: all but the tile itself."""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule

from tvm_eff.space import fusion
from tvm_eff.space.packing import Packing
from tvm_eff.space.structure import Contraction


def packing_of(work: Contraction, columns: int) -> Packing | None:
    """Return the weight's layout for tiles of `columns` channels, if it is ours to choose."""
    if work.weight_parameter is None:
        return None
    return Packing(
        parameter=work.weight_parameter,
        channel=work.weight_axes.index(work.channel),
        order=tuple(work.weight_axes.index(axis) for axis in work.reduction),
        block=columns,
    )


def separate(sch: Schedule, work: Contraction, columns: int) -> tuple[Any, Any, list[Any]]:
    """Deal with what stands around a contraction: copies, epilogue, the weight's layout.

    Returns
    -------
    tuple
        The block (BlockRV) that multiplies, into a buffer of its own; the block
        behind it that writes the function's output; and those before it that pad,
        which are still to be scheduled.
    """
    main = sch.get_sblock(work.block)
    paddings = fusion.inline_copies(sch, main)
    last = fusion.inline_epilogue(sch, main)
    _pack_weight(sch, main, work, packing_of(work, columns))
    if last is None:
        last = sch.cache_write(main, 0, "global")
    return main, last, paddings


def _pack_weight(sch: Schedule, main: Any, work: Contraction, packing: Packing | None) -> None:
    """Have `main` read its weight from a packed copy."""
    if packing is None:
        return
    copy = sch.cache_read(main, work.weight_read, "global")
    sch.transform_layout(main, ("read", work.weight_read), packing.index)
    # What MetaSchedule's own layout rewrite leaves: the copy becomes a constant.
    sch.annotate(copy, "meta_schedule.layout_rewrite_preproc", True)

"""Shared steps of convolution, dense and depthwise schedules: everything but the tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.analysis import Contraction
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, sample
from tvm_eff.targets import Target

BIAS_FIRST = "bias_first"
"""The decision to initialize the sums with the bias instead of adding it afterwards."""

STEPS = (16, 8, 4)
"""Input channels per reduction step, where the input is loaded as vectors."""

SPARE_REGISTERS = {16: 2, 8: 1}
"""Registers that LLVM needs besides the tile's for the loads it hoists, by reduction step."""


def multiplies_by_lane(target: Target) -> bool:
    """Whether a multiply-add can take one factor from a vector lane (FMLA by element)."""
    return target.toolchain.triple.startswith("aarch64")


def steps(depth: int) -> list[int]:
    """Return the reduction steps that divide `depth` input channels, the longest first.

    A step never covers the whole reduction unless it is the shortest: without a loop, LLVM
    schedules the code before and after together with it, which increases register pressure.
    """
    return [step for step in STEPS if depth % step == 0 and (step < depth or step == STEPS[-1])]


def reads_in_place(target: Target) -> bool:
    """Whether convolutions without a padded copy of the input were measured to be faster."""
    return multiplies_by_lane(target) or target.private_caches


def row_chunks(work: Contraction, target: Target) -> int:
    """Return the number of equal chunks of rows: one per core where caches are private.

    A core then reads the rows that it wrote in the previous kernel.
    """
    cores = target.hardware.cores
    even = work.extents[work.positions[-2]] % cores == 0
    return cores if even and target.private_caches else 1


def bias_decision(func: PrimFunc, work: Contraction, target: Target) -> dict[str, int]:
    """Return the decision to initialize the sums with the bias, if there is one and it pays.

    It saves an addition, and a register for the bias of every vector. On x86, where it
    was not measured, the sums start from zero.
    """
    if not multiplies_by_lane(target):
        return {}
    sch = analysis.inspect(func)
    return {BIAS_FIRST: 1} if bias_of(sch, work) is not None else {}


def start_from_bias(sch: Schedule, work: Contraction, candidate: Candidate) -> Contraction:
    """Initialize the sums with the bias, if the candidate decides so.

    Returns
    -------
    Contraction
        The same contraction, with the read indices updated to the new block.
    """
    if not candidate.as_dict().get(BIAS_FIRST):
        return work
    sample(sch, [0, 1], 1)
    main = sch.get_sblock(work.block)
    before = [region.source for region in sch.get(main).reads]
    sch.fuse_reduction_epilogue(main, bias_of(sch, work))
    after = [region.source for region in sch.get(main).reads]

    def moved(read: int) -> int:
        return next(i for i, buffer in enumerate(after) if buffer.same_as(before[read]))

    return replace(work, input_read=moved(work.input_read), weight_read=moved(work.weight_read))


def bias_of(sch: Schedule, work: Contraction) -> Any | None:
    """Return the consumer (SBlockRV) of a contraction that adds one value per channel, or None."""
    main = sch.get_sblock(work.block)
    consumers = sch.get_consumers(main)
    if len(consumers) != 1:
        return None
    block = sch.get(consumers[0])
    value = block.body.value if isinstance(block.body, tirx.BufferStore) else None
    if not isinstance(value, tirx.Add):
        return None
    if not all(isinstance(x, tvm.ir.TensorLoad) for x in (value.a, value.b)):
        return None
    sums = sch.get(main).writes[0].source
    others = [x.source for x in (value.a, value.b) if not x.source.same_as(sums)]
    if len(others) != 1 or [int(n) for n in others[0].shape if int(n) != 1] != [work.channels]:
        return None
    return consumers[0] if int(others[0].shape[-1]) == work.channels else None


def packings_of(work: Contraction | None, columns: int) -> list[Packing]:
    """Return the weight's layout for tiles of `columns` channels, if its layout is free."""
    if work is None or work.weight_parameter is None:
        return []
    packing = Packing(
        parameter=work.weight_parameter,
        channel=work.weight_axes.index(work.channel),
        order=tuple(work.weight_axes.index(axis) for axis in work.reduction),
        block=columns,
    )
    return [packing]


def inline_and_pack(
    sch: Schedule, work: Contraction, packings: Sequence[Packing]
) -> tuple[Any, Any, list[Any]]:
    """Inline the copies and the epilogue around a contraction, and pack its weight.

    Returns
    -------
    tuple
        The contraction block (BlockRV), which writes an intermediate buffer; its
        consumer, which writes the function's output; and the padding producers,
        which are still to be scheduled.
    """
    main = sch.get_sblock(work.block)
    paddings = fusion.inline_copies(sch, main)
    last = fusion.inline_epilogue(sch, main)
    pack_weight(sch, main, work, packings)
    if last is None:
        last = sch.cache_write(main, 0, "global")
    return main, last, paddings


def pack_weight(sch: Schedule, main: Any, work: Contraction, packings: Sequence[Packing]) -> None:
    """Make `main` read its weight from a packed copy, if its layout is free."""
    for packing in packings:
        copy = sch.cache_read(main, work.weight_read, "global")
        sch.transform_layout(main, ("read", work.weight_read), packing.index)
        # As MetaSchedule's own layout rewrite does: the copy is folded into a constant.
        sch.annotate(copy, "meta_schedule.layout_rewrite_preproc", True)

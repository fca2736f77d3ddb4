"""Kernels as they are before any schedule, made quick enough to be a reference."""

from __future__ import annotations

from contextlib import suppress

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError
from tvm.tirx import IterVar, PrimFunc


def quicken(mod: tvm.IRModule) -> None:
    """Have the PrimFuncs of a module use all cores, and vectors; they add in the same order."""
    for variable, func in list(mod.functions_items()):
        if isinstance(func, PrimFunc):
            mod.update_func(variable, _quicker(func))


def _quicker(func: PrimFunc) -> PrimFunc:
    """On all cores, and with sums along the innermost axis in vectors; in the same order."""
    sch = Schedule(func)
    try:
        blocks = sch.get_child_blocks(sch.get_sblock("root"))
    except ScheduleError:  # it is written as loops, and stays as it is
        return func
    for block in blocks:
        # Which loops may be moved only the primitives themselves know; what they refuse stays.
        with suppress(ScheduleError):
            _quicken(sch, block)
    return sch.mod["main"]


def _quicken(sch: Schedule, block: SBlockRV) -> None:
    loops = sch.get_loops(block)
    axes = sch.get(block).iter_vars
    kinds = [int(each.iter_type) for each in axes]
    if any(int(each.dom.extent) == 0 for each in axes):
        return
    if len(loops) != len(kinds) or not {*kinds} <= {IterVar.DataPar, IterVar.CommReduce}:
        return
    of_kind = list(zip(loops, kinds, strict=True))
    kept = [each for each, kind in of_kind if kind == IterVar.DataPar]
    summed = [each for each, kind in of_kind if kind == IterVar.CommReduce]
    if not kept:
        return
    if summed and len(kept) > 1:
        sch.reorder(*kept[:-1], *summed, kept[-1])
        sch.decompose_reduction(block, summed[0])
    outer = kept[:-1][:2]
    sch.parallel(sch.fuse(*outer) if len(outer) > 1 else kept[0])

"""Pooling and other reductions over positions, vectorized over the channels."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import BufferStore, IntImm, PrimFunc

from tvm_eff.schedules import analysis, fusion
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample, vector_length
from tvm_eff.targets import Target

MAX_VECTORS = 8


class Pooling:
    """The rule for a single reduction whose innermost axis of the output is spatial."""

    name = "pooling"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the numbers of channels to keep in registers, largest first."""
        extents = output_extents(func)
        if extents is None:
            return []
        channels = extents[-1]
        lanes = vector_length(channels, target.hardware.lanes)
        widths = [d for d in divisors(channels, MAX_VECTORS * lanes) if d % lanes == 0]
        return [
            Candidate.of(self.name, {"columns": columns, "lanes": lanes})
            for columns in reversed(widths)
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return an empty list: there is no weight."""
        return []

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``: one block of channels per task, reduced in registers."""
        main = analysis.reductions(sch)[0]
        for padding in sch.get_producers(main):
            sch.compute_inline(padding)
        last = fusion.inline_epilogue(sch, main)
        if last is None:
            last = sch.cache_write(main, 0, "global")
        block = sch.get(main)
        loops = sch.get_loops(main)
        split = sum(v.iter_type == analysis.SPATIAL for v in block.iter_vars)
        columns = sample(sch, [target.hardware.lanes], candidate["columns"])
        outer, kernel = list(loops[: split - 1]), list(loops[split:])
        f_outer, f_inner = sch.split(loops[split - 1], [None, columns])
        f_vectors, f_lanes = sch.split(f_inner, [None, candidate["lanes"]])
        sch.reorder(*outer, f_outer, *kernel, f_vectors, f_lanes)
        sch.reverse_compute_at(last, f_outer, preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, f_outer), candidate["lanes"])
        sch.vectorize(f_lanes)
        sch.unroll(f_vectors)
        sch.parallel(sch.fuse(*outer, f_outer))
        sch.decompose_reduction(main, kernel[0])


def output_extents(func: PrimFunc) -> list[int] | None:
    """Return the extents of the output's axes; None if the rule does not match."""
    sch = analysis.inspect(func)
    found = analysis.reductions(sch)
    if len(found) != 1 or analysis.epilogue(sch, found[0]) is None:
        return None
    block = sch.get(found[0])
    kinds = [v.iter_type for v in block.iter_vars]
    spatial = [v for v in block.iter_vars if v.iter_type == analysis.SPATIAL]
    if not isinstance(block.body, BufferStore) or not analysis.is_leaf(sch, found[0]):
        return None
    if not all(isinstance(v.dom.extent, IntImm) for v in block.iter_vars):
        return None
    # In every block that TOPI emits, reduction axes come last.
    if not spatial or kinds != sorted(kinds):
        return None
    return [int(v.dom.extent) for v in spatial]

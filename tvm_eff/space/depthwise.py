"""Depthwise convolution: each output channel sums over its own input channel.

The tile is `rows` positions by `columns` channels, vectorised over channels, with
the kernel unrolled, so that the input elements that neighbouring positions share
are loaded once. The weights are packed as [channel block][kernel][channel in block].
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.space import fusion
from tvm_eff.space.contraction import packing_of, separate
from tvm_eff.space.packing import Packing
from tvm_eff.space.rule import Candidate, divisors, sample, vector_length
from tvm_eff.space.structure import contraction
from tvm_eff.targets import Target

MOST_ROWS = 8
MOST_VECTORS = 4


class Depthwise:
    """The rule for depthwise convolution with any kernel, stride and dilation."""

    name = "depthwise"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers, those with most reuse of the input first."""
        work = contraction(func)
        if work is None or not work.depthwise:
            return []
        hardware = target.hardware
        lanes = vector_length(work.channels, hardware.lanes)
        found = []
        for columns in divisors(work.channels, MOST_VECTORS * lanes):
            for rows in range(1, min(work.width, MOST_ROWS) + 1):
                vectors = columns // lanes
                if columns % lanes or rows * vectors + vectors + rows > hardware.vector_registers:
                    continue
                tail = work.width % rows / work.width
                found.append((tail - 0.1 * min(rows, 4) - 0.05 * vectors, rows, columns))
        return [
            Candidate.of(self.name, {"rows": rows, "columns": columns, "lanes": lanes})
            for _, rows, columns in sorted(found)
        ]

    def packing(self, func: PrimFunc, candidate: Candidate) -> Packing | None:
        """Return the weight's layout."""
        work = contraction(func)
        return None if work is None else packing_of(work, candidate["columns"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as one register tile a row of the output."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        main, last = separate(sch, work, candidate["columns"], target)
        loops = sch.get_loops(main)
        rows = sample(sch, [1, 2, 4, 8], candidate["rows"])
        columns = sample(sch, [target.hardware.lanes], candidate["columns"])
        lanes = candidate["lanes"]
        outer = [loops[axis] for axis in work.positions[:-1]]
        x_outer, x_inner = sch.split(loops[work.positions[-1]], [None, rows])
        f_outer, f_inner = sch.split(loops[work.channel], [None, columns])
        f_vectors, f_lanes = sch.split(f_inner, [None, lanes])
        kernel = [loops[axis] for axis in work.reduction]
        sch.reorder(*outer, f_outer, x_outer, *kernel, x_inner, f_vectors, f_lanes)
        sch.reverse_compute_at(last, x_outer, preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, x_outer), lanes)
        sch.vectorize(f_lanes)
        for loop in (*kernel, x_inner, f_vectors):
            sch.unroll(loop)
        if work.width % candidate["rows"]:
            sch.annotate(x_outer, "pragma_loop_partition_hint", 1)
        sch.parallel(sch.fuse(*outer, f_outer))
        sch.decompose_reduction(main, kernel[0])

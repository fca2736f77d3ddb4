"""Depthwise convolution: each output channel sums over its own input channel.

The tile is `rows` positions by `columns` channels, vectorized over channels, with
the kernel unrolled, so that the input elements shared by neighbouring positions
are loaded once. The weights are packed as [channel block][kernel][channel in block].
The input is padded per block of output rows, a few channels at a time: the padded
copy is still in the L1 cache when it is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules import fusion
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.cpu.contraction import inline_and_pack, packings_of
from tvm_eff.schedules.cpu.half_sums import half_decision, sum_in_half
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample, vector_length
from tvm_eff.targets import Target

MAX_ROWS = 8
MAX_VECTORS = 4
MIN_CONTIGUOUS_BYTES = 128
"""Shorter contiguous reads waste bandwidth: caches fetch lines of 64 bytes, often two."""


@dataclass(frozen=True)
class _Tile:
    """A register tile, and the output rows that are computed from one padded copy."""

    rows: int
    columns: int
    lanes: int
    block_rows: int


class Depthwise:
    """The rule for depthwise convolution with any kernel, stride and dilation."""

    name = "depthwise"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers, lowest estimated cost first."""
        work = contraction(func)
        if work is None or not work.depthwise:
            return []
        half = half_decision(func, work, target)
        return [
            Candidate.of(
                self.name,
                {
                    "rows": tile.rows,
                    "columns": tile.columns,
                    "lanes": tile.lanes,
                    "block_rows": tile.block_rows,
                    **half,
                },
            )
            for tile in _tiles(work, target)
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["columns"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as register tiles along the output rows."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        main, last, paddings = inline_and_pack(sch, work, packings_of(work, candidate["columns"]))
        sum_in_half(sch, main, candidate)
        loops = sch.get_loops(main)
        rows = sample(sch, [1, 2, 4, 8], candidate["rows"])
        columns = sample(sch, [target.hardware.lanes], candidate["columns"])
        block_rows = sample(sch, [1, 2, 4, 8], candidate["block_rows"])
        lanes = candidate["lanes"]
        *outer, y, x = (loops[axis] for axis in work.positions)
        row_blocks, y_inner = sch.split(y, [None, block_rows])
        x_outer, x_inner = sch.split(x, [None, rows])
        f_outer, f_inner = sch.split(loops[work.channel], [None, columns])
        f_vectors, f_lanes = sch.split(f_inner, [None, lanes])
        kernel = [loops[axis] for axis in work.reduction]
        sch.reorder(
            *outer, row_blocks, f_outer, y_inner, x_outer, *kernel, x_inner, f_vectors, f_lanes
        )
        for padding in paddings:
            pad_inside(sch, padding, f_outer, lanes)
        sch.reverse_compute_at(last, x_outer, preserve_unit_loops=True)
        fusion.vectorize_tile(sch, fusion.loops_below(sch, last, x_outer), lanes)
        sch.vectorize(f_lanes)
        for loop in (*kernel, x_inner, f_vectors):
            sch.unroll(loop)
        if work.width % candidate["rows"]:
            sch.annotate(x_outer, "pragma_loop_partition_hint", 1)
        sch.parallel(sch.fuse(*outer, row_blocks, f_outer))
        sch.decompose_reduction(main, kernel[0])


def _tiles(work: Contraction, target: Target) -> list[_Tile]:
    """The tiles that fit the registers, lowest estimated cost first."""
    registers = target.hardware.vector_registers
    lanes = vector_length(work.channels, target.hardware.lanes)
    height = work.extents[work.positions[-2]]
    found = [
        _Tile(rows, columns, lanes, block_rows)
        for columns in divisors(work.channels, MAX_VECTORS * lanes)
        if columns % lanes == 0
        for rows in range(1, min(work.width, MAX_ROWS) + 1)
        if (rows + 1) * (columns // lanes) + rows <= registers
        for block_rows in _row_block_heights(height, target)
    ]
    return sorted(found, key=lambda tile: _cost(tile, work, target))


def _row_block_heights(height: int, target: Target) -> list[int]:
    """Return the heights of row blocks that divide the rows evenly, also among the cores.

    Each core then reads the rows that it wrote in the previous kernel.
    """
    heights = divisors(height, height)
    even = [rows for rows in heights if height // rows % target.hardware.cores == 0]
    return even if even and target.private_caches else heights


def _cost(tile: _Tile, work: Contraction, target: Target) -> float:
    """Estimate the instructions of one vector of outputs, weighted by cache stalls."""
    hardware = target.hardware
    *kernel, _ = (work.extents[axis] for axis in work.reduction)
    kernel_elements, across = math.prod(kernel), kernel[-1]
    height = work.extents[work.positions[-2]]
    in_height, in_width = ([1, *work.input_shape])[-3:-1]
    stride = max(1, round(in_width / work.width))
    tiles = -(-work.width // tile.rows)
    loads = kernel_elements / across * ((tile.rows - 1) * stride + across) / tile.rows
    input_rows = in_height - (height - tile.block_rows) * max(1, round(in_height / height))
    copies = 2 * input_rows * in_width / (tile.block_rows * work.width)
    weights = kernel_elements / tile.rows
    padded_bytes = input_rows * in_width * tile.columns * hardware.value_bytes
    stalls = 1.0 if padded_bytes <= hardware.l1d_kib * 1024 else 1.1
    stalls *= 1.0 if 2 * padded_bytes <= hardware.l2_kib * 1024 else 1.5
    stalls *= 1.0 if tile.columns * hardware.value_bytes >= MIN_CONTIGUOUS_BYTES else 1.5
    parts = work.channels // tile.columns * (height // tile.block_rows)
    idle = -(-parts // hardware.cores) * hardware.cores / parts
    instructions = (kernel_elements + loads + weights + 3) * tiles * tile.rows / work.width + copies
    return instructions * stalls * idle


def pad_inside(sch: Schedule, padding: Any, loop: Any, lanes: int) -> None:
    """Pad what one iteration of `loop` reads, so that it is in the L1 cache."""
    sch.compute_at(padding, loop, preserve_unit_loops=True)
    *_, x, f = fusion.loops_below(sch, padding, loop)
    _, vector = sch.split(f, [None, lanes])
    sch.vectorize(vector)
    sch.annotate(x, "pragma_loop_partition_hint", 1)

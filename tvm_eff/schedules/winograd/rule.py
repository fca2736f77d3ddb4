"""Convolution by Winograd's algorithm: fewer multiplications, more additions.

It computes one matrix product per element of a transformed tile, in register tiles as in
:mod:`tvm_eff.schedules.cpu.convolution`; the transforms are unrolled over a vector of
channels. A block of tile rows goes through all three steps while it is in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.passes.attributes import PREFETCH
from tvm_eff.schedules import fusion
from tvm_eff.schedules.cpu.convolution import (
    CHANNELS_OUTER,
    Nest,
    Tile,
    prefetches_weights,
    register_tile,
    tile_cost,
    tiles,
)
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Alternative, Candidate
from tvm_eff.schedules.winograd import rewrite as algorithm
from tvm_eff.schedules.winograd import steps
from tvm_eff.schedules.winograd.division import WHOLE, divisions
from tvm_eff.schedules.winograd.match import match
from tvm_eff.schedules.winograd.transforms import Filter, transform_weight
from tvm_eff.targets import Target


@dataclass(frozen=True)
class TransformedPacking(Packing):
    """Transform a weight, then pack it.

    Attributes
    ----------
    filtering
        The filter that it is transformed for.
    stride
        The convolution's.
    """

    filtering: Filter
    stride: int

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Return `weight`, [output channel, row, column, input channel], transformed and packed."""
        return super().pack(transform_weight(weight, self.filtering, self.stride))


class Winograd:
    """The extra rule for convolution with small square kernels."""

    name = "winograd"

    dtype = "float32"
    """What input and weight are stored as."""

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return output tiles, row blocks and register tiles, lowest estimated cost first."""
        work = match(func, self.dtype)
        if work is None:
            return []
        channels, depth = int(work.result.shape[3]), work.depth

        def register_tiles(positions: int) -> list[tuple[Tile, float]]:
            found = tiles(positions, channels, depth, target)[:2]
            return [(tile, tile_cost(tile, positions, target)) for tile in found]

        found = divisions(work, target, register_tiles)
        return [Candidate.of(self.name, each.decisions()) for each in found]

    def gains_most(self, func: PrimFunc) -> bool:
        """Whether its first candidate may be expected to be better than any other rule's."""
        work = match(func, self.dtype)
        return work is not None and work.gains_most

    def alternatives(self, func: PrimFunc) -> list[Alternative]:
        """Return the equivalent function of each output tile size, if the rule matches."""
        work = match(func, self.dtype)
        if work is None:
            return []
        return [
            Alternative(
                f"{self.name}{each.tile}",
                algorithm.rewrite(func, work, each.tile),
                work.weight_parameter,
                algorithm.weight_function(work, each.tile),
            )
            for each in work.filters
        ]

    def rewrite(self, func: PrimFunc, candidate: Candidate) -> PrimFunc:
        """Return the function with its convolution computed by the algorithm."""
        work = match(func, self.dtype)
        assert work is not None, "the workload was matched when the candidate was made"
        return algorithm.rewrite(func, work, candidate["tile"])

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        work = match(func, self.dtype)
        if work is None:
            return []
        packing = TransformedPacking(
            parameter=work.weight_parameter,
            channel=0,
            order=(1, 2, 3),
            block=candidate["columns"],
            filtering=work.filtering(candidate["tile"]),
            stride=work.stride,
        )
        return [packing]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``, the result of :meth:`rewrite`, in row blocks."""
        part, product, written = steps.schedule_result(sch, candidate, target)
        for each in (written, product):
            sch.compute_at(each, part, preserve_unit_loops=True)
        # Before the products are tiled: TVM would then compute regions of whole tiles.
        steps.transform_input(sch, part if candidate["tile_rows"] else None, target.hardware.lanes)
        multiply(sch, product, written, part, candidate, target)


def multiply(
    sch: Schedule, product: Any, written: Any, part: Any, candidate: Candidate, target: Target
) -> None:
    """Multiply in register tiles of positions by output channels."""
    *outer, p, f, depth = fusion.loops_below(sch, product, part)
    weights = sch.get(product).reads[1].source
    nest = Nest(outer=tuple(outer), position=p, channel=f, kernel=(), depth=depth)
    _, k_outer = register_tile(sch, product, written, nest, 0, candidate, CHANNELS_OUTER, target)
    if prefetches_weights(math.prod(int(n) for n in weights.shape), target):
        # [channel block][row][column][input channel][channel in block], in reading order.
        blocks = math.prod(int(n) for n in weights.shape[:3])
        passes = 1 if candidate["tile_rows"] == WHOLE else int(sch.get(part).extent)
        sch.annotate(k_outer, PREFETCH, [blocks, candidate["columns"], passes])
    sch.decompose_reduction(product, k_outer)

"""Winograd's algorithm for convolutions of bytes on Arm without dot products: F(4 x 4, 3 x 3).

Inputs and weights are transformed to 16 bits, and their products are summed in 32, all of it
exactly (:mod:`tvm_eff.schedules.winograd.integers`). Where a dot product of bytes is one
instruction, four times as many multiplications take no longer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules.cpu import dot_products
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Alternative, Candidate
from tvm_eff.schedules.winograd import (
    byte_products,
    exact_division,
    integers,
    rewrite_bytes,
    steps,
)
from tvm_eff.schedules.winograd.division import divisions
from tvm_eff.schedules.winograd.match import BYTES, Convolution, match
from tvm_eff.schedules.winograd.rule import multiply
from tvm_eff.targets import Target

_BYTES = 16
"""Of a vector."""


@dataclass(frozen=True)
class TransformedBytes(Packing):
    """Transform a weight of bytes to 16 bits, then pack it."""

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Return `weight`, [output channel, row, column, input channel], transformed and packed."""
        return super().pack(integers.transform_weight(weight))


class WinogradBytes:
    """The extra rule for 3x3 convolution of bytes where dot products are no instruction."""

    name = "winograd_bytes"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return row blocks and register tiles, lowest estimated cost first."""
        if dot_products.of_target(target) not in (dot_products.PAIRS, dot_products.PAIRS_32):
            return []
        work = _match(func)
        if work is None:
            return []
        found = divisions(
            work,
            target,
            lambda positions: byte_products.register_tiles(work, positions, target),
        )
        return [Candidate.of(self.name, each.decisions()) for each in found]

    def gains_most(self, func: PrimFunc) -> bool:
        """Whether its first candidate may be expected to be better than any other rule's."""
        work = _match(func)
        return work is not None and work.gains_most

    def alternatives(self, func: PrimFunc) -> list[Alternative]:
        """Return the equivalent function, if the rule matches."""
        work = _match(func)
        if work is None:
            return []
        other = Alternative(
            self.name,
            rewrite_bytes.rewrite(func, work),
            work.weight_parameter,
            rewrite_bytes.weight_function(work),
        )
        return [other]

    def rewrite(self, func: PrimFunc, candidate: Candidate) -> PrimFunc:
        """Return the function with its convolution computed by the algorithm."""
        work = _match(func)
        assert work is not None, "the workload was matched when the candidate was made"
        return rewrite_bytes.rewrite(func, work)

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        work = _match(func)
        if work is None:
            return []
        columns = candidate["columns"]
        return [TransformedBytes(work.weight_parameter, channel=0, order=(1, 2, 3), block=columns)]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``, the result of :meth:`rewrite`, in row blocks."""
        division = exact_division.register(target)
        part, product, written = steps.schedule_result(sch, candidate, target, division)
        for each in (written, product):
            sch.compute_at(each, part, preserve_unit_loops=True)
        row_block = part if candidate["tile_rows"] else None
        steps.transform_input(sch, row_block, byte_products.LANES, copied=_BYTES)
        multiply(sch, product, written, part, candidate, target)


def _match(func: PrimFunc) -> Convolution | None:
    work = match(func, BYTES)
    if work is None or integers.parts_of(work.depth) is None:
        return None
    return work if int(work.result.shape[3]) % byte_products.LANES == 0 else None

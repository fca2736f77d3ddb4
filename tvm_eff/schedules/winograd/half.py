"""Winograd's algorithm where the processor computes in float16: F(2 x 2, 3 x 3).

Inputs are transformed in float16: an element is a sum or difference of four, rounded twice.
Weights are transformed in float64 and rounded once. Products are summed in float16 in blocks of
a few input channels, which are added to totals, of float16 if they are short
(:mod:`tvm_eff.schedules.cpu.half_sums`). An output is a sum or difference of nine totals, whose
errors are nearly three times as large, in squares, as those of a direct convolution's sums of as
many products: hence small blocks.
"""

from __future__ import annotations

import itertools

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.schedules.cpu import half_sums
from tvm_eff.schedules.rule import Candidate
from tvm_eff.schedules.winograd import half_products, steps
from tvm_eff.schedules.winograd.division import divisions
from tvm_eff.schedules.winograd.match import Convolution, match
from tvm_eff.schedules.winograd.rule import Winograd, multiply
from tvm_eff.targets import HalfHardware, Target

BLOCK, SAFE_BLOCK = 16, 8
"""Input channels of a block. For normal inputs, SqueezeNet's kernels of 16 to 64 channels are off
by 1.2e-3 to 1.8e-3 of their outputs' spread in blocks of 16, by 1.1e-3 to 1.6e-3 in blocks of 8,
and by up to 2.3e-3 in blocks of 32, where 2.0e-3 is allowed."""

LEAST_BLOCK = 4
"""With fewer channels in a block, to add blocks up takes longer than the products."""


class WinogradHalf(Winograd):
    """The extra rule for 3x3 convolution where the processor computes in float16."""

    name = "winograd_half"
    dtype = "float16"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return row blocks and register tiles, lowest estimated cost first.

        Smaller blocks of channels are among the first, should the others round too much.
        """
        work = match(func, self.dtype)
        if work is None or not isinstance(target.hardware, HalfHardware):
            return []
        block, safe = (half_products.block_of(work.depth, most) for most in (BLOCK, SAFE_BLOCK))
        if block < min(LEAST_BLOCK, work.depth):
            return []
        preferred = self._of_blocks(work, block, target)
        if safe < LEAST_BLOCK or safe == block:
            return preferred
        return _between(preferred, self._of_blocks(work, safe, target))

    def _of_blocks(self, work: Convolution, block: int, target: Target) -> list[Candidate]:
        found = divisions(
            work,
            target,
            lambda positions: half_products.register_tiles(work, positions, block, target)[:3],
        )
        return [Candidate.of(self.name, {**each.decisions(), "depth": block}) for each in found]

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``, the result of :meth:`rewrite`, in row blocks."""
        part, product, written = steps.schedule_result(sch, candidate, target)
        terms = int(sch.get(sch.get_loops(product)[-1]).extent)
        total, *sums = half_products.sum_in_blocks(sch, product, candidate)
        if terms <= half_products.MOST_CHANNELS:
            for each in [total, written] if sums else [written]:
                half_sums.narrow(sch, each)
        for each in (written, total, *sums):
            sch.compute_at(each, part, preserve_unit_loops=True)
        # Before the products are tiled: TVM would then compute regions of whole tiles.
        steps.transform_input(sch, part if candidate["tile_rows"] else None, target.hardware.lanes)
        if sums:
            blocks = (total, sums[0], written)
            half_products.multiply_blocks(sch, blocks, part, candidate, target)
        else:
            multiply(sch, total, written, part, candidate, target)


def _between(many: list[Candidate], few: list[Candidate]) -> list[Candidate]:
    """Put one of `few` behind the first and behind every second one after it, the rest last."""
    found, rest = [], iter(few)
    for number, each in enumerate(many):
        found += [each, *itertools.islice(rest, 1 - number % 2)]
    return [*found, *rest]

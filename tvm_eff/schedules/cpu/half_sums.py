"""Sums in float16 on processors that compute in it, in blocks whose rounding stays small.

A kernel of a network in float16 sums in float32. A schedule may keep sums of a few products in
float16, twice as many in a vector, and add them into totals, of float32 if they have more than
:data:`MOST_TERMS` products. The error of a sum grows with its terms, that of blocks with theirs
(N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, chapter 4). Like any
schedule's, its result has to agree with the kernel as imported.
"""

from __future__ import annotations

import math
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.passes.attributes import HALF_SUMS
from tvm_eff.schedules import analysis
from tvm_eff.schedules.analysis import Contraction
from tvm_eff.schedules.rule import Candidate, sample
from tvm_eff.targets import HalfHardware, Target

SHORT_BLOCK, LONG_BLOCK = 32, 64
"""Products of one block that is summed in registers. The long one is for totals of many blocks.

Each addition rounds what has been summed until then, and one large sum of few is as far off as the
outputs may be apart. For normal inputs a kernel of 64 products in one block is off by 3e-3 of its
outputs' spread, more than it may be, in blocks of 32 by 1.4e-3; one of 512 in blocks of 128, 64 and
32 by 2.2e-3, 1.9e-3 and 1.6e-3, with totals of float32 by 2.2e-3, 1.6e-3 and 1.1e-3.
"""

MOST_TERMS = 16 * LONG_BLOCK
"""Products of one total in float16; more are added up in float32.

A total is rounded once for each block, a sum of a block once for each product: while there are
fewer blocks than products in one, totals add less to the error than the blocks have made. To widen
a sum and add it takes twice as long as to add it: a 1x1 convolution of 512 channels takes 0.163
instructions a multiply-add with totals of float32, and 0.154 with these.
"""

MANY_TERMS = 192
"""Products of sums that are cut into long blocks are more."""

DECISION = "half_sums"
"""The decision to sum in float16."""


def computes_in_half(func: PrimFunc, target: Target) -> bool:
    """Whether a kernel computes on float16 and a processor has arithmetic for it."""
    return target.gpu is None and is_of_half(func) and target.float16


def is_of_half(func: PrimFunc) -> bool:
    """Whether a kernel stores float16, and computes on it.

    A contraction of bytes or of float32 may write what a layer in float16 reads: it has vectors of
    its own factors.
    """
    dtypes = [str(each.dtype) for each in func.params]
    works = analysis.contractions(func) if "float16" in dtypes else []
    if not works:
        return "float16" in dtypes
    if {"int8", "uint8"}.intersection(dtypes):
        return all(_multiplies_half(func, each) for each in works)
    return "float16" in dtypes[:-1]


def may_sum_in_half(func: PrimFunc, work: Contraction, target: Target) -> bool:
    """Whether a contraction multiplies float16, sums float32, and may sum in float16.

    Parameters
    ----------
    func, work
        The kernel, and its contraction.
    target
        The target as the kernel sees it: see :meth:`tvm_eff.targets.Target.in_float16`.
    """
    if not isinstance(target.hardware, HalfHardware):
        return False
    sch = analysis.inspect(func)
    block = sch.get(sch.get_sblock(work.block))
    return _multiplies_half(func, work) and str(block.writes[0].source.dtype) == "float32"


def _multiplies_half(func: PrimFunc, work: Contraction) -> bool:
    sch = analysis.inspect(func)
    block = sch.get(sch.get_sblock(work.block))
    factors = (block.reads[each].source for each in (work.input_read, work.weight_read))
    return all(str(each.dtype) == "float16" for each in factors)


def block_sizes(work: Contraction) -> tuple[int, int]:
    """Return how many products to sum in one block: the preferred number, and a safer one."""
    terms = terms_of(work)
    preferred = LONG_BLOCK if terms > MANY_TERMS else SHORT_BLOCK
    return preferred, preferred // 2


def terms_of(work: Contraction) -> int:
    """Return how many products each output of a contraction is the sum of."""
    return math.prod(work.extents[axis] for axis in work.reduction)


def half_decision(func: PrimFunc, work: Contraction, target: Target) -> dict[str, int]:
    """Return the decision to keep whole sums in float16, if they are short enough."""
    short = terms_of(work) <= SHORT_BLOCK and may_sum_in_half(func, work, target)
    return {DECISION: 1} if short else {}


def sum_in_half(sch: Schedule, block: Any, candidate: Candidate) -> None:
    """Keep the sums of a block in float16, if the candidate decides so.

    Their buffer must not be the function's output.
    """
    if candidate.as_dict().get(DECISION):
        sample(sch, [0, 1], 1)
        narrow(sch, block)


def narrow_blocks(sch: Schedule, sums: Any, total: Any, work: Contraction) -> None:
    """Keep the sums of blocks in float16, and their totals if these have few products."""
    narrow(sch, sums)
    if terms_of(work) <= MOST_TERMS:
        narrow(sch, total)


def narrow(sch: Schedule, block: Any) -> None:
    """Keep the sums of a block in float16, and have the function computed in it."""
    sch.unsafe_set_dtype(block, 0, "float16")
    sch.annotate(block, HALF_SUMS, 1)

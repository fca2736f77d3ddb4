"""Instructions that add dot products of bytes to integers of 32 bits, as tensor intrinsics.

A trace names the intrinsic of its schedule: importing this module registers them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.s_tir import TensorIntrin

from tvm_eff.schedules.cpu import dot_products_x86
from tvm_eff.schedules.rule import Candidate
from tvm_eff.targets import Target


@dataclass(frozen=True)
class DotProduct:
    """An instruction, or the few that LLVM makes of one tensor intrinsic.

    Attributes
    ----------
    number
        Stands for it among a candidate's decisions. Records have it: it never changes.
    intrinsic
        The name that it is registered by.
    lanes
        Sums that it adds to: output channels beside one another.
    length
        Products that it adds to each: input channels beside one another, the same for all sums.
    inputs, weights
        The dtypes of the factors.
    offered
        Whether a target's processor has it, which LLVM must be told: it aborts otherwise.
    """

    number: int
    intrinsic: str
    lanes: int
    length: int
    inputs: str
    weights: str
    offered: Callable[[Target], bool]


VPDPBUSD = DotProduct(
    number=0,
    intrinsic="tvm_eff.vpdpbusd_16x4",
    lanes=16,
    length=4,
    inputs="uint8",
    weights="int8",
    offered=lambda target: target.has("avx512vnni") and target.hardware.lanes == 16,
)
"""Of AVX-512 VNNI: bytes without a sign, the same four for all lanes, times bytes with one."""

DOT_PRODUCTS = (VPDPBUSD,)
"""All of them, the better ones first."""

_DECISION = "instruction"

TensorIntrin.register(
    VPDPBUSD.intrinsic,
    dot_products_x86.vpdpbusd_definition,
    dot_products_x86.vpdpbusd_instruction,
    override=True,
)


def of_target(target: Target) -> DotProduct | None:
    """Return the best one that a target's processor has; None if it has none."""
    return next((each for each in DOT_PRODUCTS if each.offered(target)), None)


def decision(found: DotProduct) -> dict[str, int]:
    """Return the decision for one. The first one was recorded without."""
    return {_DECISION: found.number} if found.number else {}


def of_candidate(candidate: Candidate) -> DotProduct:
    """Return the one that a candidate's tile uses."""
    number = candidate.as_dict().get(_DECISION, 0)
    return next(each for each in DOT_PRODUCTS if each.number == number)

"""Instructions that add dot products of bytes to integers of 32 bits, as tensor intrinsics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from tvm.s_tir import TensorIntrin
from tvm.tirx import PrimFunc

from tvm_eff.schedules.cpu import dot_products_arm, dot_products_x86
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
    part
        Input channels of a vector's weights that lie beside one another, if not all of them.
    instructions
        How many there are of them.
    spare
        Registers for what is between them.
    weight_registers
        How many a vector of weights takes.
    """

    number: int
    intrinsic: str
    lanes: int
    length: int
    inputs: str
    weights: str
    offered: Callable[[Target], bool]
    part: int = 4
    instructions: int = 1
    spare: int = 0
    weight_registers: int = 1


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

VPDPBUSD_8 = replace(
    VPDPBUSD,
    number=16,
    intrinsic="tvm_eff.vpdpbusd_8x4",
    lanes=8,
    offered=lambda target: (
        target.hardware.lanes >= 8 and (target.has("avx512vnni") or target.has("avxvnni"))
    ),
)
"""The same of 256 bits: also of AVX-VNNI, and for channels that are no multiple of 16."""

VPMADDWD = replace(
    VPDPBUSD,
    number=17,
    intrinsic="tvm_eff.vpmaddwd_16x4",
    instructions=4,
    spare=2,
    weight_registers=2,
    offered=lambda target: target.has("avx512bw") and target.hardware.lanes == 16,
)
"""Of AVX-512BW: pairs of products of 16 bits."""

VPMADDWD_8 = replace(
    VPMADDWD,
    number=18,
    intrinsic="tvm_eff.vpmaddwd_8x4",
    lanes=8,
    offered=lambda target: target.has("avx2") and target.hardware.lanes >= 8,
)
"""Of AVX2."""

SDOT = DotProduct(
    number=2,
    intrinsic="tvm_eff.sdot_4x4",
    lanes=4,
    length=4,
    inputs="int8",
    weights="int8",
    offered=lambda target: _is(target, "aarch64") and target.has("dotprod"),
)
"""Of Armv8.2's dotprod: SDOT by element, the four activations from a lane."""

PAIRS = DotProduct(
    number=3,
    intrinsic="tvm_eff.pairs_4x4",
    lanes=4,
    length=4,
    inputs="int8",
    weights="int8",
    offered=lambda target: _is(target, "aarch64"),
    part=2,
    instructions=3,
    spare=5,
)
"""Of every 64-bit Arm: SMULL, SMLAL and SADALP."""

PAIRS_32 = DotProduct(
    number=4,
    intrinsic="tvm_eff.pairs_4x4_arm",
    lanes=4,
    length=4,
    inputs="int8",
    weights="int8",
    offered=lambda target: _is(target, "arm") and target.has("neon"),
    part=2,
    instructions=3,
    spare=3,
)
"""The same of 32-bit NEON."""

DOT_PRODUCTS = (VPDPBUSD, VPDPBUSD_8, VPMADDWD, VPMADDWD_8, SDOT, PAIRS, PAIRS_32)
"""All of them, the better ones first."""

_DECISION = "instruction"

_PARTS: dict[DotProduct, Callable[[], tuple[PrimFunc, PrimFunc]]] = {
    VPDPBUSD: partial(dot_products_x86.vpdpbusd, 16),
    VPDPBUSD_8: partial(dot_products_x86.vpdpbusd, 8),
    VPMADDWD: partial(dot_products_x86.vpmaddwd, 16),
    VPMADDWD_8: partial(dot_products_x86.vpmaddwd, 8),
    SDOT: dot_products_arm.sdot,
    PAIRS: dot_products_arm.pairs,
    PAIRS_32: dot_products_arm.pairs_of_32_bit_neon,
}


@lru_cache
def register(found: DotProduct) -> str:
    """Register an intrinsic, which the trace of a schedule names, and return its name.

    Not at import: TVM takes a tenth of a second and more to read each.
    """
    definition, instruction = _PARTS[found]()
    TensorIntrin.register(found.intrinsic, definition, instruction, override=True)
    return found.intrinsic


def _is(target: Target, architecture: str) -> bool:
    return target.architecture.name == architecture


def all_of_target(target: Target) -> list[DotProduct]:
    """Return those that a target's processor has, the better ones first."""
    return [each for each in DOT_PRODUCTS if each.offered(target)]


def of_target(target: Target) -> DotProduct | None:
    """Return the best one that a target's processor has; None if it has none."""
    return next(iter(all_of_target(target)), None)


def decision(found: DotProduct) -> dict[str, int]:
    """Return the decision for one. The first one was recorded without."""
    return {_DECISION: found.number} if found.number else {}


def of_candidate(candidate: Candidate) -> DotProduct:
    """Return the one that a candidate's tile uses."""
    number = candidate.as_dict().get(_DECISION, 0)
    return next(each for each in DOT_PRODUCTS if each.number == number)


def broadcasts_from_memory(found: DotProduct) -> bool:
    """Whether the instruction itself reads the activations and broadcasts them, as on x86."""
    return found.inputs == "uint8"

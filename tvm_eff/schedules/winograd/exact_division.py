# mypy: disable-error-code="valid-type"
"""Division without a rest by one instruction of Arm, as TVM's tensor intrinsic.

SQRDMULH and VQRDMULH multiply by a fraction of 2^31 and round. The fraction nearest to 1 / 36 is
off by at most half of its last bit, so that the product of a multiple of 36 of 32 bits is off by
less than half, and the rounded one is the quotient. LLVM takes five instructions for a division by
36, since it does not know that there is no rest.
"""

from __future__ import annotations

from functools import lru_cache

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.tirx import PrimFunc

from tvm_eff.passes.tir import script
from tvm_eff.schedules.winograd.integers import DIVISOR
from tvm_eff.targets import Target

LANES = 4
"""Quotients of an instruction."""

_INSTRUCTIONS = {
    "aarch64": "llvm.aarch64.neon.sqrdmulh.v4i32",
    "arm": "llvm.arm.neon.vqrdmulh.v4i32",
}


def register(target: Target) -> str:
    """Register the intrinsic of a target's processor, and return its name."""
    return _register(target.architecture.name)


@lru_cache
def _register(architecture: str) -> str:
    name = f"tvm_eff.divide_by_{DIVISOR}_{architecture}"
    TensorIntrin.register(name, *_parts(_INSTRUCTIONS[architecture]), override=True)
    return name


def _parts(instruction: str) -> tuple[PrimFunc, PrimFunc]:
    factor = round(2**31 / DIVISOR)

    @script.prim_func(s_tir=True)
    def definition(
        A: T.Buffer((4,), "int32", offset_factor=1),
        B: T.Buffer((4,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(A[0:4])
            T.writes(B[0:4])
            for i in T.serial(0, 4):
                with T.sblock("divide"):
                    vi = T.axis.remap("S", [i])
                    B[vi] = A[vi] // DIVISOR

    @script.prim_func(s_tir=True)
    def implementation(
        A: T.Buffer((4,), "int32", offset_factor=1),
        B: T.Buffer((4,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(A[0:4])
            T.writes(B[0:4])
            B[T.ramp(T.int32(0), 1, 4)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(instruction),
                A.vload([0], dtype="int32x4"),
                T.broadcast(T.int32(factor), 4),
                dtype="int32x4",
            )

    return definition, implementation

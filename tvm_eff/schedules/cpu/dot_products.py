# mypy: disable-error-code="valid-type"
"""Instructions that add dot products of four bytes to integers of 32 bits, as tensor intrinsics.

A trace names the intrinsic of its schedule: importing this module registers it.
"""

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from tvm_eff.targets import Target

LENGTH = 4
"""Factors of a dot product."""

LANES = 16
"""Dot products of an instruction."""

VPDPBUSD = "tvm_eff.vpdpbusd_16x4"
"""Of AVX-512 VNNI: bytes without a sign, the same four for all lanes, times bytes with one."""


# TVM's own intrinsic of it passes integers of 32 bits, which LLVM 22 refuses.
@T.prim_func(s_tir=True)
def _definition(
    A: T.Buffer((4,), "uint8", offset_factor=1),
    B: T.Buffer((16, 4), "int8", offset_factor=1),
    C: T.Buffer((16,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(C[0:16], A[0:4], B[0:16, 0:4])
        T.writes(C[0:16])
        for i in T.serial(0, 16):
            for k in T.serial(0, 4):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.cast(A[vk], "int32") * T.cast(B[vi, vk], "int32")


@T.prim_func(s_tir=True)
def _instruction(
    A: T.Buffer((4,), "uint8", offset_factor=1),
    B: T.Buffer((16, 4), "int8", offset_factor=1),
    C: T.Buffer((16,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(C[0:16], A[0:4], B[0:16, 0:4])
        T.writes(C[0:16])
        C[T.ramp(T.int32(0), 1, 16)] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
            C.vload([0], dtype="int32x16"),
            T.reinterpret(
                T.broadcast(T.reinterpret(A.vload([0], "uint8x4"), dtype="int32"), 16),
                dtype="uint8x64",
            ),
            B.vload([0, 0], dtype="int8x64"),
            dtype="int32x16",
        )


TensorIntrin.register(VPDPBUSD, _definition, _instruction, override=True)


def has_vpdpbusd(target: Target) -> bool:
    """Whether a target's processor has it, which LLVM must be told: it aborts otherwise."""
    return target.dot_product == LENGTH

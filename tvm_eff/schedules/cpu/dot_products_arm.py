# mypy: disable-error-code="valid-type"
"""Dot products of bytes on Arm, as TVM's tensor intrinsics: what they compute, and by what.

The activation is what is broadcast: LLVM then takes it from a lane of the vector it is in.
"""

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T
from tvm.tirx import PrimFunc

from tvm_eff.passes.tir import script


def sdot() -> tuple[PrimFunc, PrimFunc]:
    """Return the definition and the instruction of Armv8.2's dotprod, by element."""

    @script.prim_func(s_tir=True)
    def definition(
        A: T.Buffer((4,), "int8", offset_factor=1),
        B: T.Buffer((4, 4), "int8", offset_factor=1),
        C: T.Buffer((4,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:4], A[0:4], B[0:4, 0:4])
            T.writes(C[0:4])
            for i in T.serial(0, 4):
                for k in T.serial(0, 4):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        C[vi] = C[vi] + T.cast(A[vk], "int32") * T.cast(B[vi, vk], "int32")

    # TVM's own has the operands the other way around, and LLVM does not exchange them: no factor
    # of it comes from a lane.
    @script.prim_func(s_tir=True)
    def instruction(
        A: T.Buffer((4,), "int8", offset_factor=1),
        B: T.Buffer((4, 4), "int8", offset_factor=1),
        C: T.Buffer((4,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:4], A[0:4], B[0:4, 0:4])
            T.writes(C[0:4])
            C[T.ramp(T.int32(0), 1, 4)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.sdot.v4i32.v16i8"),
                C.vload([0], dtype="int32x4"),
                B.vload([0, 0], dtype="int8x16"),
                T.reinterpret(
                    T.broadcast(T.reinterpret(A.vload([0], "int8x4"), dtype="int32"), 4),
                    dtype="int8x16",
                ),
                dtype="int32x4",
            )

    return definition, instruction


def pairs() -> tuple[PrimFunc, PrimFunc]:
    """Return the definition and the instructions SMULL, SMLAL and SADALP of 64-bit Arm."""
    return _pairs_definition(), _pairs_instructions("llvm.aarch64.neon.smull.v8i16", _added)


def pairs_of_32_bit_neon() -> tuple[PrimFunc, PrimFunc]:
    """Return the definition and the instructions VMULL, VMLAL and VPADAL."""
    return _pairs_definition(), _pairs_instructions(
        "llvm.arm.neon.vmulls.v8i16", _added_in_32_bit_neon
    )


def _pairs_definition() -> PrimFunc:
    @script.prim_func(s_tir=True)
    def definition(
        A: T.Buffer((4,), "int8", offset_factor=1),
        B: T.Buffer((2, 4, 2), "int8", offset_factor=1),
        C: T.Buffer((4,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:4], A[0:4], B[0:2, 0:4, 0:2])
            T.writes(C[0:4])
            for i in T.serial(0, 4):
                for k in T.serial(0, 4):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        C[vi] = C[vi] + T.cast(A[vk], "int32") * T.cast(
                            B[vk // 2, vi, vk % 2], "int32"
                        )

    return definition


def _pairs_instructions(product: str, accumulated: Callable[[Any, Any], Any]) -> PrimFunc:
    """Return the products of two pairs of bytes, summed in 16 bits and then in 32.

    Two products fit 16 bits: weights are within -127 to 127.

    Parameters
    ----------
    product
        LLVM's intrinsic for eight products of bytes, in 16 bits.
    accumulated
        Adds neighbours of eight sums of 16 bits to four of 32 bits.
    """

    def pair(activations: Any, first: int) -> Any:
        both = T.reinterpret(activations.vload([first], "int8x2"), dtype="int16")
        return T.reinterpret(T.broadcast(both, 8), dtype="int8x16")

    def products(half: Any, weights: Any, activations: Any) -> Any:
        factors = [half(each, dtype="int8x8") for each in (weights, activations)]
        name = T.llvm_lookup_intrinsic_id(product)
        return T.call_llvm_pure_intrin(name, *factors, dtype="int16x8")

    @script.prim_func(s_tir=True)
    def instructions(
        A: T.Buffer((4,), "int8", offset_factor=1),
        B: T.Buffer((2, 4, 2), "int8", offset_factor=1),
        C: T.Buffer((4,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:4], A[0:4], B[0:2, 0:4, 0:2])
            T.writes(C[0:4])
            C[T.ramp(T.int32(0), 1, 4)] = accumulated(
                C.vload([0], dtype="int32x4"),
                products(T.vectorlow, B.vload([0, 0, 0], "int8x16"), pair(A, 0))
                + products(T.vectorhigh, B.vload([0, 0, 0], "int8x16"), pair(A, 2)),
            )

    return instructions


def _added(sums: Any, products: Any) -> Any:
    """What LLVM makes SADALP of."""
    name = T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.saddlp.v4i32.v8i16")
    return sums + T.call_llvm_pure_intrin(name, products, dtype="int32x4")


def _added_in_32_bit_neon(sums: Any, products: Any) -> Any:
    """VPADAL."""
    name = T.llvm_lookup_intrinsic_id("llvm.arm.neon.vpadals.v4i32.v8i16")
    return T.call_llvm_pure_intrin(name, sums, products, dtype="int32x4")

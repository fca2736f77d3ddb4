# mypy: disable-error-code="valid-type"
"""Dot products of bytes on x86, as TVM's tensor intrinsics: what they compute, and by what.

All of them take the same four bytes without a sign for every sum, and weights with one.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T
from tvm.tirx import PrimFunc

from tvm_eff.passes.tir import script


def _definition(lanes: int) -> PrimFunc:
    """Return four products added to each of `lanes` sums."""

    @script.prim_func(s_tir=True)
    def dot_products(
        A: T.Buffer((4,), "uint8", offset_factor=1),
        B: T.Buffer((lanes, 4), "int8", offset_factor=1),
        C: T.Buffer((lanes,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:4], B[0:lanes, 0:4])
            T.writes(C[0:lanes])
            for i in T.serial(0, lanes):
                for k in T.serial(0, 4):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        C[vi] = C[vi] + T.cast(A[vk], "int32") * T.cast(B[vi, vk], "int32")

    return dot_products


def _instruction(lanes: int, sums: Any) -> PrimFunc:
    """Return the same as vectors: `sums` adds products to int32, of uint8 that int32 hold."""
    four = lanes * 4

    @script.prim_func(s_tir=True)
    def dot_products(
        A: T.Buffer((4,), "uint8", offset_factor=1),
        B: T.Buffer((lanes, 4), "int8", offset_factor=1),
        C: T.Buffer((lanes,), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:4], B[0:lanes, 0:4])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = sums(
                C.vload([0], dtype=f"int32x{lanes}"),
                T.broadcast(T.reinterpret(A.vload([0], "uint8x4"), dtype="int32"), lanes),
                B.vload([0, 0], dtype=f"int8x{four}"),
            )

    return dot_products


def vpdpbusd(lanes: int) -> tuple[PrimFunc, PrimFunc]:
    """Return the definition and the instruction of AVX-512 VNNI and AVX-VNNI for 16 or 8 sums."""

    # TVM's own intrinsic of it passes integers of 32 bits, which LLVM 22 refuses.
    def sums(start: Any, inputs: Any, weights: Any) -> Any:
        return T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id(f"llvm.x86.avx512.vpdpbusd.{lanes * 32}"),
            start,
            T.reinterpret(inputs, dtype=f"uint8x{lanes * 4}"),
            weights,
            dtype=f"int32x{lanes}",
        )

    return _definition(lanes), _instruction(lanes, sums)


def vpmaddwd(lanes: int) -> tuple[PrimFunc, PrimFunc]:
    """Return the definition, and it of AVX2's and AVX-512BW's sums of two products of 16 bits.

    Even and odd bytes are widened within the lanes of 32 bits that they lie in, which takes shifts
    alone. ``vpmaddubsw`` would take the bytes as they are, and saturates: 2 * 255 * 127 is no
    number of 16 bits.
    """
    name = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[lanes]
    halves = f"int16x{lanes * 2}"

    def number(value: int) -> Any:
        return T.broadcast(T.int16(value), lanes * 2)

    def added(inputs: Any, weights: Any) -> Any:
        return T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id(name), inputs, weights, dtype=f"int32x{lanes}"
        )

    def sums(start: Any, inputs: Any, weights: Any) -> Any:
        pairs = T.reinterpret(inputs, dtype=halves)
        high = T.bitwise_and(T.shift_right(pairs, number(8)), number(255))
        signed = T.reinterpret(weights, dtype=halves)
        even = T.shift_right(T.shift_left(signed, number(8)), number(8))
        low = T.bitwise_and(pairs, number(255))
        return start + added(low, even) + added(high, T.shift_right(signed, number(8)))

    return _definition(lanes), _instruction(lanes, sums)

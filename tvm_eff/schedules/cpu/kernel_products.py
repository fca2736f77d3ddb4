# mypy: disable-error-code="valid-type"
"""All products of a depthwise kernel of bytes at one position, as TVM's tensor intrinsics.

Each takes a vector of channels: an input element and a weight for each element of the kernel. What
neighbouring positions share, LLVM computes once: they are the same expressions.

A trace names the intrinsic of its schedule, which is registered when the schedule is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.tirx import PrimFunc

from tvm_eff.passes.tir import script
from tvm_eff.targets import Target

KERNELS = ((3, 3), (5, 5))
"""Of the convolutions that have these schedules: height and width."""

Columns = Sequence[Sequence[Any]]
"""Vectors by the kernel's columns, from left to right, and its rows."""

Products = Callable[[Any, Columns, Columns], Any]
"""Adds the products of inputs and weights to sums of 32 bits."""


@dataclass(frozen=True)
class KernelProducts:
    """The instructions that compute them on a processor.

    Attributes
    ----------
    number
        Stands for it among a candidate's decisions. Records have it: it never changes.
    name
        Of the intrinsics, before the kernel's size.
    lanes
        Channels of a vector.
    inputs
        The dtype of the activations; weights have a sign.
    add
        The instructions.
    offered
        Whether a target's processor has them.
    column
        How many widen an element of the input.
    together
        Elements of a column of the kernel whose weights are in one register.
    sums
        Registers that hold the sums of a vector of channels.
    spare
        Registers for what is between.
    """

    number: int
    name: str
    lanes: int
    inputs: str
    add: Products
    offered: Callable[[Target], bool]
    column: float
    together: int
    sums: int = 1
    spare: int = 2

    def fits(self, rows: int, vectors: int, kernel: tuple[int, int], registers: int) -> bool:
        """Whether the registers hold a tile's sums, and what is read for a vector of channels."""
        down, across = kernel
        # Of a larger kernel, what LLVM does not keep is loaded for each position.
        weights = min(-(-down // self.together) * across, registers // 3)
        sums = rows * vectors * self.sums
        return sums + vectors * weights + across + self.spare <= registers


def _definition(kernel: tuple[int, int], lanes: int, inputs: str) -> PrimFunc:
    down, across = kernel

    @script.prim_func(s_tir=True)
    def products(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (down, across, lanes), inputs, offset_factor=1)
        B = T.match_buffer(b, (down, across, lanes), "int8", offset_factor=1)
        C = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:down, 0:across, 0:lanes], B[0:down, 0:across, 0:lanes])
            T.writes(C[0:lanes])
            for y, x, i in T.grid(down, across, lanes):
                with T.sblock("update"):
                    vi, vy, vx = T.axis.remap("SRR", [i, y, x])
                    C[vi] = C[vi] + T.cast(A[vy, vx, vi], "int32") * T.cast(B[vy, vx, vi], "int32")

    return products


def _instructions(kernel: tuple[int, int], found: KernelProducts) -> PrimFunc:
    down, across = kernel
    lanes, inputs = found.lanes, found.inputs

    def summed(start: Any, A: Any, B: Any) -> Any:
        def columns(source: Any, dtype: str) -> Columns:
            return [
                [source.vload([y, x, 0], f"{dtype}x{lanes}") for y in range(down)]
                for x in range(across)
            ]

        return found.add(start, columns(A, inputs), columns(B, "int8"))

    @script.prim_func(s_tir=True)
    def products(a: T.handle, b: T.handle, c: T.handle) -> None:
        row = T.int32()
        place = T.int32()
        A = T.match_buffer(
            a, (down, across, lanes), inputs, strides=[row, place, 1], offset_factor=1
        )
        B = T.match_buffer(b, (down, across, lanes), "int8", offset_factor=1)
        C = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:down, 0:across, 0:lanes], B[0:down, 0:across, 0:lanes])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = summed(C.vload([0], dtype=f"int32x{lanes}"), A, B)

    return products


def _vpdpbusd(lanes: int) -> Products:
    """Four rows at once, the bytes of a channel beside one another; the last may be fewer."""

    def beside(rows: Sequence[Any]) -> Any:
        found = None
        for place, each in enumerate(rows):
            word = T.Cast(f"uint32x{lanes}", each)
            if place:
                word = T.shift_left(word, T.broadcast(T.uint32(8 * place), lanes))
            found = word if found is None else T.bitwise_or(found, word)
        return found

    def four(sums: Any, inputs: Sequence[Any], weights: Sequence[Any]) -> Any:
        unsigned = [T.reinterpret(each, dtype=f"uint8x{lanes}") for each in weights]
        return T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id(f"llvm.x86.avx512.vpdpbusd.{lanes * 32}"),
            sums,
            T.reinterpret(beside(inputs), dtype=f"uint8x{lanes * 4}"),
            T.reinterpret(beside(unsigned), dtype=f"int8x{lanes * 4}"),
            dtype=f"int32x{lanes}",
        )

    def add(sums: Any, inputs: Columns, weights: Columns) -> Any:
        for column, factors in zip(inputs, weights, strict=True):
            for first in range(0, len(column), 4):
                sums = four(sums, column[first : first + 4], factors[first : first + 4])
        return sums

    return add


def _pairs(lanes: int) -> Products:
    """Two products summed in 16 bits, which they fit, as weights are within -127 to 127."""

    def add(sums: Any, inputs: Columns, weights: Columns) -> Any:
        products = [
            T.Cast(f"int16x{lanes}", a) * T.Cast(f"int16x{lanes}", w)
            for column, factors in zip(inputs, weights, strict=True)
            for a, w in zip(column, factors, strict=True)
        ]
        for first in range(0, len(products), 2):
            one, *other = products[first : first + 2]
            pair = one + other[0] if other else one
            sums = sums + T.Cast(f"int32x{lanes}", pair)
        return sums

    return add


VPDPBUSD = KernelProducts(
    number=1,
    name="columns_vpdpbusd_16",
    lanes=16,
    inputs="uint8",
    add=_vpdpbusd(16),
    offered=lambda target: target.has("avx512vnni") and target.hardware.lanes == 16,
    column=2,
    together=4,
)
"""Of AVX-512 VNNI: the rows of a column are a dot product."""

VPDPBUSD_8 = replace(
    VPDPBUSD,
    number=2,
    name="columns_vpdpbusd_8",
    lanes=8,
    add=_vpdpbusd(8),
    offered=lambda target: (
        target.hardware.lanes >= 8 and (target.has("avx512vnni") or target.has("avxvnni"))
    ),
)
"""The same of 256 bits, also of AVX-VNNI."""

PAIRS = KernelProducts(
    number=3,
    name="kernel_pairs_16",
    lanes=16,
    inputs="int8",
    add=_pairs(16),
    offered=lambda target: target.architecture.name == "aarch64",
    column=0.5,
    together=1,
    sums=4,
    spare=4,
)
"""Of NEON: SMULL, SMLAL and SADDW, and their second halves."""

PAIRS_8 = replace(
    PAIRS,
    number=4,
    name="kernel_pairs_8",
    lanes=8,
    add=_pairs(8),
    sums=2,
    offered=lambda target: target.architecture.name in ("aarch64", "arm") and target.has("neon"),
)
"""The same for channels that are no multiple of 16, and for the 16 registers of 32-bit NEON."""

KERNEL_PRODUCTS = (VPDPBUSD, VPDPBUSD_8, PAIRS, PAIRS_8)
"""All of them, the better ones first."""


def of_target(target: Target) -> list[KernelProducts]:
    """Return those that a target's processor has, the better ones first."""
    return [each for each in KERNEL_PRODUCTS if each.offered(target)]


def of_number(number: int) -> KernelProducts:
    """Return those that a candidate's decision stands for."""
    return next(each for each in KERNEL_PRODUCTS if each.number == number)


@lru_cache
def register(found: KernelProducts, kernel: tuple[int, int]) -> str:
    """Register the intrinsic for a kernel's size, and return its name.

    Not at import: TVM takes a tenth of a second and more to read each.
    """
    name = f"tvm_eff.{found.name}_{kernel[0]}x{kernel[1]}"
    definition = _definition(kernel, found.lanes, found.inputs)
    TensorIntrin.register(name, definition, _instructions(kernel, found), override=True)
    return name

# mypy: disable-error-code="valid-type"
"""The tile instructions of Intel's AMX as TVM's tensor intrinsics, for products of bytes.

A tile register holds up to 16 rows of 64 bytes. TDPBUSD multiplies one of activations, which have
no sign, by one of weights, and adds the sums of four products to a tile of integers of 32 bits
(Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2).

In TIR a tile register is a block of a buffer, which no code reads or writes: the block's place
among those of its buffer is the register's number, which instructions have as an immediate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.tirx import PrimFunc

from tvm_eff.passes.tir import script

LANES = 16
"""Sums in a row of a tile: output channels."""

MOST_ROWS = 16
MOST_DEPTH = 64
"""Bytes in a row of activations: input channels."""

PRODUCTS = 4
"""Of each sum, in one element of a tile."""

REGISTERS = 8

_SUM_BYTES = 4


@dataclass(frozen=True)
class Tiles:
    """What the tile registers hold while a kernel runs.

    The first ones are sums, then there are activations, then weights.

    Attributes
    ----------
    rows
        Positions in a tile of activations and of sums.
    depth
        Input channels in a tile of activations and of weights.
    positions
        Tiles of activations.
    channels
        Tiles of weights, each with :data:`LANES` output channels.
    """

    rows: int
    depth: int
    positions: int
    channels: int

    @property
    def sums(self) -> int:
        """Tiles of sums."""
        return self.positions * self.channels

    @property
    def registers(self) -> int:
        """Tile registers in all."""
        return self.sums + self.positions + self.channels

    def configuration(self) -> list[int]:
        """Return the bytes that LDTILECFG reads: of palette 1, each register's shape."""
        shapes = [
            *[(self.rows, LANES * _SUM_BYTES)] * self.sums,
            *[(self.rows, self.depth)] * self.positions,
            *[(self.depth // PRODUCTS, LANES * PRODUCTS)] * self.channels,
        ]
        found = [1] + [0] * 63
        for register, (rows, row_bytes) in enumerate(shapes):
            found[16 + 2 * register] = row_bytes
            found[48 + register] = rows
        return found


@dataclass(frozen=True)
class Intrinsics:
    """The names of the tensor intrinsics for some tiles and a stride of the convolution."""

    clear: str
    load_input: str
    load_weights: str
    dot_products: str
    store: str


@lru_cache
def register(tiles: Tiles, stride: int) -> Intrinsics:
    """Register the intrinsics, which the trace of a schedule names, and return their names."""
    rows, depth = tiles.rows, tiles.depth
    inputs, weights = tiles.sums, tiles.sums + tiles.positions
    found = {
        f"clear_{rows}": _clear(rows),
        f"input_{rows}x{depth}_{stride}_{inputs}": _load_input(rows, depth, stride, inputs),
        f"weights_{depth}_{weights}": _load_weights(depth, weights),
        f"products_{rows}x{depth}_{inputs}_{weights}": _products(rows, depth, inputs, weights),
        f"store_{rows}": _store(rows),
    }
    names = [f"tvm_eff.amx_{name}" for name in found]
    for name, (definition, instruction) in zip(names, found.values(), strict=True):
        TensorIntrin.register(name, definition, instruction, override=True)
    return Intrinsics(*names)


def _number(first: int, buffer: Any, elements: int) -> Any:
    """Return the number of the register that stands for a block of a buffer."""
    return T.Cast("int8", first + buffer.elem_offset // elements)


def _load(number: Any, source: Any, row_bytes: Any) -> Any:
    return T.call_llvm_intrin(
        "void",
        "llvm.x86.tileloadd64",
        number,
        source.access_ptr("r"),
        T.Cast("int64", row_bytes),
    )


def _clear(rows: int) -> tuple[PrimFunc, PrimFunc]:
    lanes = LANES

    @script.prim_func(s_tir=True)
    def definition(C: T.Buffer((rows, lanes), "int32", offset_factor=1)) -> None:
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:rows, 0:lanes])
            for i, f in T.grid(rows, lanes):
                with T.sblock("clear"):
                    vi, vf = T.axis.remap("SS", [i, f])
                    C[vi, vf] = 0

    @script.prim_func(s_tir=True)
    def instruction(C: T.Buffer((rows, lanes), "int32", offset_factor=1)) -> None:
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:rows, 0:lanes])
            T.evaluate(T.call_llvm_intrin("void", "llvm.x86.tilezero", _number(0, C, rows * lanes)))

    return definition, instruction


def _load_input(rows: int, depth: int, stride: int, first: int) -> tuple[PrimFunc, PrimFunc]:
    """Each row is a position's input channels, `stride` positions behind the row before."""
    span = (rows - 1) * stride + 1

    @script.prim_func(s_tir=True)
    def definition(
        S: T.Buffer((span, depth), "uint8", offset_factor=1),
        A: T.Buffer((rows, depth), "uint8", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(S[0:span, 0:depth])
            T.writes(A[0:rows, 0:depth])
            for i, k in T.grid(rows, depth):
                with T.sblock("load"):
                    vi, vk = T.axis.remap("SS", [i, k])
                    A[vi, vk] = S[vi * stride, vk]

    @script.prim_func(s_tir=True)
    def instruction(
        s: T.handle,
        A: T.Buffer((rows, depth), "uint8", offset_factor=1),
    ) -> None:
        row = T.int32()
        S = T.match_buffer(s, (span, depth), "uint8", strides=(row, 1), offset_factor=1)
        with T.sblock("root"):
            T.reads(S[0:span, 0:depth])
            T.writes(A[0:rows, 0:depth])
            T.evaluate(_load(_number(first, A, rows * depth), S, row * stride))

    return definition, instruction


def _load_weights(depth: int, first: int) -> tuple[PrimFunc, PrimFunc]:
    """Each row is four input channels of all output channels, as VNNI takes them."""
    fours, lanes, products = depth // PRODUCTS, LANES, PRODUCTS

    @script.prim_func(s_tir=True)
    def definition(
        S: T.Buffer((fours, lanes, products), "int8", offset_factor=1),
        B: T.Buffer((fours, lanes, products), "int8", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(S[0:fours, 0:lanes, 0:products])
            T.writes(B[0:fours, 0:lanes, 0:products])
            for k, f, p in T.grid(fours, lanes, products):
                with T.sblock("load"):
                    vk, vf, vp = T.axis.remap("SSS", [k, f, p])
                    B[vk, vf, vp] = S[vk, vf, vp]

    @script.prim_func(s_tir=True)
    def instruction(
        s: T.handle,
        B: T.Buffer((fours, lanes, products), "int8", offset_factor=1),
    ) -> None:
        row = T.int32()
        S = T.match_buffer(
            s, (fours, lanes, products), "int8", strides=(row, products, 1), offset_factor=1
        )
        with T.sblock("root"):
            T.reads(S[0:fours, 0:lanes, 0:products])
            T.writes(B[0:fours, 0:lanes, 0:products])
            T.evaluate(_load(_number(first, B, depth * lanes), S, row))

    return definition, instruction


def _products(rows: int, depth: int, inputs: int, weights: int) -> tuple[PrimFunc, PrimFunc]:
    fours, lanes, products = depth // PRODUCTS, LANES, PRODUCTS

    @script.prim_func(s_tir=True)
    def definition(
        A: T.Buffer((rows, depth), "uint8", offset_factor=1),
        B: T.Buffer((fours, lanes, products), "int8", offset_factor=1),
        C: T.Buffer((rows, lanes), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:rows, 0:lanes], A[0:rows, 0:depth], B[0:fours, 0:lanes, 0:products])
            T.writes(C[0:rows, 0:lanes])
            for i, f, k in T.grid(rows, lanes, depth):
                with T.sblock("update"):
                    vi, vf, vk = T.axis.remap("SSR", [i, f, k])
                    C[vi, vf] = C[vi, vf] + T.cast(A[vi, vk], "int32") * T.cast(
                        B[vk // products, vf, vk % products], "int32"
                    )

    @script.prim_func(s_tir=True)
    def instruction(
        A: T.Buffer((rows, depth), "uint8", offset_factor=1),
        B: T.Buffer((fours, lanes, products), "int8", offset_factor=1),
        C: T.Buffer((rows, lanes), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:rows, 0:lanes], A[0:rows, 0:depth], B[0:fours, 0:lanes, 0:products])
            T.writes(C[0:rows, 0:lanes])
            T.evaluate(
                T.call_llvm_intrin(
                    "void",
                    "llvm.x86.tdpbusd",
                    _number(0, C, rows * lanes),
                    _number(inputs, A, rows * depth),
                    _number(weights, B, depth * lanes),
                )
            )

    return definition, instruction


def _store(rows: int) -> tuple[PrimFunc, PrimFunc]:
    lanes = LANES

    @script.prim_func(s_tir=True)
    def definition(
        C: T.Buffer((rows, lanes), "int32", offset_factor=1),
        D: T.Buffer((rows, lanes), "int32", offset_factor=1),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:rows, 0:lanes])
            T.writes(D[0:rows, 0:lanes])
            for i, f in T.grid(rows, lanes):
                with T.sblock("store"):
                    vi, vf = T.axis.remap("SS", [i, f])
                    D[vi, vf] = C[vi, vf]

    @script.prim_func(s_tir=True)
    def instruction(
        C: T.Buffer((rows, lanes), "int32", offset_factor=1),
        d: T.handle,
    ) -> None:
        row = T.int32()
        D = T.match_buffer(d, (rows, lanes), "int32", strides=(row, 1), offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:rows, 0:lanes])
            T.writes(D[0:rows, 0:lanes])
            T.evaluate(
                T.call_llvm_intrin(
                    "void",
                    "llvm.x86.tilestored64",
                    _number(0, C, rows * lanes),
                    D.access_ptr("w"),
                    T.Cast("int64", row * 4),
                )
            )

    return definition, instruction

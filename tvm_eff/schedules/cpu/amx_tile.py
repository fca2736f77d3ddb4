"""Convolution of bytes in the tile registers of Intel's AMX.

As :mod:`tvm_eff.schedules.cpu.dot_product_tile`, with tiles in the place of vectors: sums of some
positions by some output channels stay in tile registers over the whole reduction, whose steps load
tiles of activations from where they lie, and of weights that are packed as for VNNI. The sums are
stored in a buffer of the same size, from which the epilogue reads them.

All tiles of a kernel have the same number of rows, a divisor of the output's width: there is no
tile for a remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm import sym
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.passes.attributes import TILES
from tvm_eff.schedules import fusion
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.cpu import amx, dot_product_tile, dot_products
from tvm_eff.schedules.cpu.amx import LANES, Tiles
from tvm_eff.schedules.cpu.contraction import inline_and_pack
from tvm_eff.schedules.cpu.convolution import CHANNELS_INNER, CHANNELS_OUTER
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample
from tvm_eff.targets import Target

_LEAST_ROWS = 4  # of fewer, a tile takes as long to load as to multiply
_MOST_ALIKE = 3  # tiles of activations or of weights

# Cycles of Sapphire Rapids, by Intel's 64 and IA-32 Architectures Optimization Reference Manual,
# chapter "Intel AMX instructions": a product takes one for each row, and its sums can be used after
# 52; a load takes one for two rows.
_ROWS_LOADED = 2
_LATENCY = 52


class AmxTile:
    """The extra rule for standard convolution of bytes where the processor has AMX."""

    name = "amx_tile"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the divisions among the tile registers in both loop orders, cheapest first."""
        work = _match(func) if target.has("amx-int8") else None
        if work is None:
            return []
        found = sorted(_divisions(work), key=_cost)
        return [
            Candidate.of(
                self.name,
                {
                    "rows": tiles.rows,
                    "depth": tiles.depth,
                    "positions": tiles.positions,
                    "columns": tiles.channels * LANES,
                    "order": order,
                },
            )
            for tiles in found
            for order in _orders(work, tiles, target)
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return dot_product_tile.packings_for(
            contraction(func), candidate["columns"], dot_products.VPDPBUSD
        )

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as tiles inside parallel loops."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        packings = self.packings(sch.mod["main"], candidate)
        main, last, paddings = inline_and_pack(sch, work, packings)
        for padding in paddings:
            fusion.schedule_elementwise(sch, padding, target.hardware.lanes)
        _schedule(sch, main, last, work, candidate)


def _match(func: PrimFunc) -> Contraction | None:
    work = dot_product_tile.match(func, dot_products.VPDPBUSD)
    # A dense layer of one input has one position.
    return work if work is not None and _rows(work) >= _LEAST_ROWS else None


def _rows(work: Contraction) -> int:
    return divisors(work.width, amx.MOST_ROWS)[-1]


def _divisions(work: Contraction) -> list[Tiles]:
    depth = next(n for n in reversed(divisors(work.depth, amx.MOST_DEPTH)) if n % amx.PRODUCTS == 0)
    found = [
        Tiles(_rows(work), depth, positions, channels)
        for positions in range(1, _MOST_ALIKE + 1)
        for channels in range(1, _MOST_ALIKE + 1)
        if work.channels % (channels * LANES) == 0 and any(_along(work, _rows(work), positions))
    ]
    return [tiles for tiles in found if tiles.registers <= amx.REGISTERS]


def _along(work: Contraction, rows: int, positions: int) -> tuple[int, int]:
    """Return how many tiles of activations there are down and across; none if they do not fit."""
    if work.width // rows % positions == 0:
        return 1, positions
    if len(work.positions) > 1 and work.extents[work.positions[-2]] % positions == 0:
        return positions, 1
    return 0, 0


def _cost(tiles: Tiles) -> tuple[float, float]:
    """Estimate the cycles of a product's row, and of what is loaded for it meanwhile.

    A step's products wait for those of the step before.
    """
    products = tiles.sums * tiles.rows
    loaded = tiles.positions * tiles.rows + tiles.channels * tiles.depth // amx.PRODUCTS
    loads = loaded / _ROWS_LOADED
    return max(products, loads, _LATENCY) / products, loads / products


def _orders(work: Contraction, tiles: Tiles, target: Target) -> list[int]:
    """Return the loop orders whose outermost loops keep every core busy."""
    down, across = _along(work, tiles.rows, tiles.positions)
    rows = prod(work.extents[axis] for axis in work.positions[:-1]) // down
    if len(work.positions) == 1:
        rows = work.width // (tiles.rows * across)
    found = []
    if work.channels // (tiles.channels * LANES) >= target.hardware.cores:
        found.append(CHANNELS_OUTER)
    if rows >= target.hardware.cores or not found:
        found.append(CHANNELS_INNER)
    return found


def _tiles(candidate: Candidate) -> Tiles:
    return Tiles(
        rows=candidate["rows"],
        depth=candidate["depth"],
        positions=candidate["positions"],
        channels=candidate["columns"] // LANES,
    )


def _schedule(sch: Schedule, main: Any, last: Any, work: Contraction, candidate: Candidate) -> None:
    tiles, order = _tiles(candidate), candidate["order"]
    at = len(work.positions) - 1
    inputs, weights, sums = _hold(sch, main, tiles, work)
    intrinsics = amx.register(tiles, _stride(sch, inputs, at))
    loops = sch.get_loops(main)
    *kernel, depth = (loops[axis] for axis in work.reduction)
    *outer, position = (loops[axis] for axis in work.positions)
    sample(sch, [CHANNELS_INNER, CHANNELS_OUTER], order)

    down, across = _along(work, tiles.rows, tiles.positions)
    tile_loops = []
    if outer:
        outer[-1], y_tiles = sch.split(outer[-1], [None, down])
        tile_loops.append(y_tiles)
    x, x_tiles, x_rows = sch.split(position, [None, across, tiles.rows])
    f, f_tiles, f_lanes = sch.split(loops[work.channel], [None, tiles.channels, LANES])
    k, k_bytes = sch.split(depth, [None, tiles.depth])
    tile_loops += [x_tiles, f_tiles]
    around = [*outer, x, f] if order == CHANNELS_INNER else [f, *outer, x]
    sch.reorder(*around, *kernel, k, *tile_loops, x_rows, f_lanes, k_bytes)
    products = sch.blockize(x_rows)
    for block in (inputs, weights):
        sch.compute_at(block, k, preserve_unit_loops=True)
    for block in (sums, last):
        sch.reverse_compute_at(block, around[-1], preserve_unit_loops=True)
    fusion.vectorize_tile(sch, fusion.loops_below(sch, last, around[-1]), LANES)
    parallel = f if order == CHANNELS_OUTER else sch.fuse(*outer) if outer else x
    sch.parallel(parallel)
    sch.annotate(parallel, TILES, tiles.configuration())
    zeros = sch.decompose_reduction(products, kernel[0] if kernel else k)

    of_rows, of_sums = {at: tiles.rows, -1: tiles.depth}, {-2: tiles.rows, -1: LANES}
    of_weights = {-3: tiles.depth // amx.PRODUCTS, -2: LANES, -1: amx.PRODUCTS}
    _to_instruction(sch, inputs, k, of_rows, intrinsics.load_input)
    _to_instruction(sch, weights, k, of_weights, intrinsics.load_weights)
    _to_instruction(sch, sums, around[-1], of_sums, intrinsics.store)
    within = ((zeros, intrinsics.clear, 2), (products, intrinsics.dot_products, 3))
    for block, intrinsic, dimensions in within:
        for loop in sch.get_loops(block)[-len(tile_loops) :]:
            sch.unroll(loop)
        (inside,) = sch.get_child_blocks(block)
        sch.tensorize(sch.get_loops(inside)[-dimensions], intrinsic)


def _hold(sch: Schedule, main: Any, tiles: Tiles, work: Contraction) -> tuple[Any, Any, Any]:
    """Return the blocks that load tiles of both factors and that store tiles of sums.

    Their buffers have a tile's elements beside one another.
    """
    rows, depth, fours = tiles.rows, tiles.depth, tiles.depth // amx.PRODUCTS
    at = len(work.positions) - 1

    def input_tile(*index: Any) -> list[Any]:
        x, channel = index[at], index[-1]
        others = [*index[:at], *index[at + 1 : -1]]
        return [*others, x // rows, channel // depth, x % rows, channel % depth]

    def weight_tile(*index: Any) -> list[Any]:
        *others, four, channel, byte = index
        return [*others, four // fours, channel // LANES, four % fours, channel % LANES, byte]

    def sum_tile(*index: Any) -> list[Any]:
        *others, x, channel = index
        return [*others, x // rows, channel // LANES, x % rows, channel % LANES]

    # By position and place in the kernel: with a stride, or a kernel, tiles have rows in common.
    inputs = sch.reindex(main, ("read", work.input_read))
    sch.transform_layout(main, ("read", work.input_read), input_tile)
    weights = sch.cache_read(main, work.weight_read, "global")
    sch.transform_layout(main, ("read", work.weight_read), weight_tile)
    sums = sch.cache_write(main, 0, "global")
    sch.transform_layout(main, ("write", 0), sum_tile)
    return inputs, weights, sums


def _stride(sch: Schedule, inputs: Any, at: int) -> int:
    """Return how many positions of the input there are from one of the output to the next."""
    block = sch.get(inputs)
    read = block.reads[0].region[at].min
    step, _ = sym.detect_linear_equation(read, [block.iter_vars[at].var])
    return int(step)


def _to_instruction(
    sch: Schedule, block: Any, anchor: Any, extents: Mapping[int, int], intrinsic: str
) -> None:
    """Make an instruction of so many iterations of some loops of `block`, and unroll the others."""
    loops = fusion.loops_below(sch, block, anchor)
    split = {i % len(loops): sch.split(loops[i], [None, extent]) for i, extent in extents.items()}
    others = [loop for i, loop in enumerate(loops) if i not in split]
    outer = [*others, *(blocks for blocks, _ in split.values())]
    inner = [within for _, within in split.values()]
    sch.reorder(*outer, *inner)
    for loop in outer:
        sch.unroll(loop)
    sch.tensorize(inner[0], intrinsic)

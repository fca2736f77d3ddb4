"""Convolution and dense layers: a register tile of output positions by output channels.

The innermost loops keep `rows` positions x `columns` channels of the output in
vector registers over the whole reduction. The weights are packed at build time
as [channel block][kernel][input channel][channel in block], so that the tile
reads them as consecutive whole vectors. On 64-bit ARM a multiply-add can take one
operand from a vector lane: there the reduction is split by the vector length and
the input tile is loaded as vectors too.

The space is derived from the register file: every tile whose accumulators, input
and weights fit, ordered by an estimate of the instructions per multiply-add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff.passes.attributes import PREFETCH
from tvm_eff.schedules import fusion
from tvm_eff.schedules.analysis import Contraction, contraction
from tvm_eff.schedules.cpu.contraction import (
    SPARE_REGISTERS,
    bias_decision,
    inline_and_pack,
    multiplies_by_lane,
    packings_of,
    start_from_bias,
    steps,
)
from tvm_eff.schedules.packing import Packing
from tvm_eff.schedules.rule import Candidate, divisors, sample, vector_length
from tvm_eff.targets import FLOAT32_BYTES, HalfHardware, Target

# Loop orders of the tiles, outermost first.
CHANNELS_INNER = 0  # positions, then channel blocks: the input stays in the cache
CHANNELS_OUTER = 1  # channel blocks, then positions: the weights stay in the cache
ROWS_OUTER = 2  # row chunks per core, then channel blocks: the chunk stays in its cache
ORDERS = (CHANNELS_INNER, CHANNELS_OUTER, ROWS_OUTER)

MAX_VECTORS = 6
MAX_ROWS = 28

_MAX_UNROLLED = 300  # instructions: LLVM's -unroll-threshold at -O3
_INSTRUCTIONS_PER_FMA = 1.3  # in a small tile


@dataclass(frozen=True)
class Tile:
    """A register tile.

    Attributes
    ----------
    rows
        Output positions.
    columns
        Output channels.
    lanes
        Channels in a vector.
    unroll
        Input channels per reduction step.
    """

    rows: int
    columns: int
    lanes: int
    unroll: int

    @property
    def vectors(self) -> int:
        """Vectors across the tile's channels."""
        return self.columns // self.lanes

    @property
    def accumulators(self) -> int:
        """Registers that hold the tile."""
        return self.rows * self.vectors


class RegisterTile:
    """The rule for dense and standard, strided, dilated and grouped convolution."""

    name = "register_tile"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return the tiles that fit the registers in each loop order, lowest cost first."""
        work = contraction(func)
        if work is None or work.depthwise:
            return []
        found = tiles(work.width, work.channels // work.groups, work.depth, target)
        orders = loop_orders(work, target)
        bias = bias_decision(func, work, target)
        return [
            Candidate.of(
                self.name,
                {
                    "rows": tile.rows,
                    "columns": tile.columns,
                    "lanes": tile.lanes,
                    "unroll": tile.unroll,
                    "order": order,
                    **bias,
                },
            )
            for tile in found
            for order in orders
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return packings_of(contraction(func), candidate["columns"])

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as one register tile inside parallel loops."""
        work = contraction(sch.mod["main"])
        assert work is not None, "the workload was matched when the candidate was made"
        work = start_from_bias(sch, work, candidate)
        main, last, paddings = inline_and_pack(sch, work, packings_of(work, candidate["columns"]))
        for padding in paddings:
            fusion.schedule_elementwise(sch, padding, target.hardware.lanes)
        schedule_tile(sch, main, last, work, candidate, target)


def prefetches_weights(weights: int, target: Target) -> bool:
    """Whether to prefetch the next block of a kernel with so many weights."""
    if not target.toolchain.triple.startswith("x86_64"):
        return False
    return weights * FLOAT32_BYTES > target.hardware.l1d_kib * 1024


def loop_orders(work: Contraction, target: Target) -> list[int]:
    """Return the loop orders that keep every core busy, the more promising first."""
    outer = _rows(work)
    if outer < target.hardware.cores:
        return [CHANNELS_OUTER]
    weights = _weights(work)
    inputs = outer * work.width * work.depth
    over_channels = ROWS_OUTER if _divides_rows_evenly(work, target) else CHANNELS_OUTER
    if over_channels == ROWS_OUTER and prefetches_weights(weights, target):
        chunk = (inputs + outer * work.width * work.channels) // target.hardware.cores
        if chunk * FLOAT32_BYTES <= target.hardware.l2_kib * 1024:
            # In a network the weights are not in the near caches, and only this order
            # prefetches them. A kernel measured in isolation finds them cached.
            return [ROWS_OUTER]
    return [over_channels, CHANNELS_INNER] if weights > inputs else [CHANNELS_INNER, over_channels]


def _weights(work: Contraction) -> int:
    return work.channels * math.prod(work.extents[axis] for axis in work.reduction)


def _rows(work: Contraction) -> int:
    """Rows of the output, of all images."""
    return math.prod(work.extents[axis] for axis in work.positions[:-1])


def _divides_rows_evenly(work: Contraction, target: Target) -> bool:
    """Whether the rows divide evenly among cores with private caches.

    The previous kernel, divided alike, left each core's chunk in its cache.
    """
    even = _rows(work) % target.hardware.cores == 0
    return even and work.groups == 1 and target.private_caches


def tiles(width: int, channels: int, depth: int, target: Target) -> list[Tile]:
    """Return the register tiles for `width` positions, lowest estimated cost first."""
    found = fitting_tiles(width, channels, depth, target)
    if multiplies_by_lane(target):
        found = [tile for tile in found if keeps_reduction_loop(tile, depth)] or found
    return sorted(found, key=lambda tile: tile_cost(tile, width, target))


def fitting_tiles(width: int, channels: int, depth: int, target: Target) -> list[Tile]:
    """Return the tiles of up to `width` positions that fit the registers."""
    registers = target.hardware.vector_registers
    found = []
    for lanes, columns in _column_choices(channels, target.hardware.lanes):
        for rows in range(1, min(width, MAX_ROWS) + 1):
            tiles_of = (Tile(rows, columns, lanes, unroll) for unroll in _unrolls(depth, target))
            longest = next((t for t in tiles_of if _registers(t, target) <= registers), None)
            if longest is not None:
                found.append(longest)
    return found


def _column_choices(channels: int, lanes: int) -> list[tuple[int, int]]:
    """Pairs of vector length and tile width that divide the channels.

    Where the channels are not a multiple of the vector, a tile as wide as one of
    their divisors is one long vector, which LLVM splits: 40 of 1000 channels are
    two and a half vectors of 16.
    """
    even = vector_length(channels, lanes)
    limit = MAX_VECTORS * lanes
    choices = [(even, d) for d in divisors(channels, MAX_VECTORS * even) if d % even == 0]
    if even < lanes:
        choices += [(d, d) for d in divisors(channels, limit) if d > even and d % even == 0]
    return choices


def _unrolls(depth: int, target: Target) -> list[int]:
    """Reduction steps, the longest first."""
    if multiplies_by_lane(target) and (found := steps(depth)):
        if isinstance(target.hardware, HalfHardware):
            # A factor of float16 must be in one of the first 16 registers, where two vectors for
            # each row do not fit: a 1x1 convolution of 512 channels takes 1.3% less with one.
            return [step for step in found if step <= target.hardware.lanes]
        return found
    if depth % 4 == 0:
        return [4]
    return [depth] if depth <= 4 else [1]


def keeps_reduction_loop(tile: Tile, depth: int) -> bool:
    """Whether LLVM keeps the reduction as a loop.

    Fully unrolled, it hoists the weights, which all tiles of a row share, into registers
    and spills those that do not fit.
    """
    return tile.accumulators * depth * _INSTRUCTIONS_PER_FMA > _MAX_UNROLLED


def hardware_vectors(tile: Tile, target: Target) -> int:
    """Registers across one row of the tile."""
    return tile.vectors * -(-tile.lanes // target.hardware.lanes)


def loads_input_vectors(tile: Tile, target: Target) -> bool:
    """Whether a tile's input is loaded as vectors along the channels."""
    return multiplies_by_lane(target) and tile.unroll % 4 == 0


def _registers(tile: Tile, target: Target) -> int:
    """Registers for the tile, its input and the weights of one reduction step.

    x86 multiplies by an operand broadcast from memory, which needs no register.
    """
    vectors = hardware_vectors(tile, target)
    inputs = 1 if target.toolchain.triple.startswith("x86_64") else tile.rows
    spare = SPARE_REGISTERS.get(tile.unroll, 0) if loads_input_vectors(tile, target) else 0
    return tile.rows * vectors + vectors + inputs + spare


def tile_cost(tile: Tile, width: int, target: Target) -> float:
    """Estimate the instructions per useful multiply-add."""
    full, rest = divmod(width, tile.rows)
    cost = full * tile.rows * _rows_cost(tile, tile.rows, target)
    if rest:
        cost += rest * _rows_cost(tile, rest, target)
    return cost / width


def _rows_cost(tile: Tile, rows: int, target: Target) -> float:
    vectors, lanes = hardware_vectors(tile, target), target.hardware.lanes
    multiplies = rows * vectors * tile.unroll
    loads = -(-tile.unroll // lanes) if loads_input_vectors(tile, target) else tile.unroll
    input_loads = rows * loads
    # 64-bit ARM loads a pair of vectors with one instruction.
    weight_loads = vectors * tile.unroll / (2 if multiplies_by_lane(target) else 1)
    loop = 3
    # Multiply-adds into one accumulator form a dependence chain with a latency of four
    # cycles on every core here, so too few accumulators leave the unit idle.
    in_flight = 4 * target.hardware.fma_per_cycle
    stall = max(1.0, in_flight / (rows * vectors))
    used = tile.columns / (vectors * target.hardware.lanes)
    return max(stall, 1 + (input_loads + weight_loads + loop) / multiplies) / used


def schedule_tile(
    sch: Schedule,
    main: Any,
    last: Any,
    work: Contraction,
    candidate: Candidate,
    target: Target,
) -> None:
    """Schedule a contraction as one register tile inside parallel loops, `last` at each tile."""
    loops = sch.get_loops(main)
    *kernel, depth = (loops[axis] for axis in work.reduction)
    nest = Nest(
        outer=tuple(loops[axis] for axis in work.positions[:-1]),
        position=loops[work.positions[-1]],
        channel=loops[work.channel],
        kernel=tuple(kernel),
        depth=depth,
    )
    order = candidate["order"]
    sample(sch, ORDERS, order)
    chunks = 1
    if order == ROWS_OUTER:
        chunks = target.hardware.cores
        chunk, row = sch.split(sch.fuse(*nest.outer), [chunks, None])
        nest = replace(nest, chunks=(chunk,), outer=(row,))
    f_outer, k_outer = register_tile(
        sch, main, last, nest, work.input_read, candidate, order, target
    )
    if order != CHANNELS_INNER and work.groups == 1 and prefetches_weights(_weights(work), target):
        columns = candidate["columns"]
        sch.annotate(k_outer, PREFETCH, [work.channels // columns, columns, chunks])
    if order == CHANNELS_INNER:
        sch.parallel(sch.fuse(*nest.outer))
    elif order == ROWS_OUTER:
        sch.parallel(*nest.chunks)
    else:
        sch.parallel(sch.fuse(f_outer, *nest.outer))
    sch.decompose_reduction(main, kernel[0] if kernel else k_outer)


@dataclass(frozen=True)
class Nest:
    """The loops (LoopRV) of a multiply-accumulate block, by iteration dimension."""

    outer: tuple[Any, ...]
    position: Any
    channel: Any
    kernel: tuple[Any, ...]
    depth: Any
    chunks: tuple[Any, ...] = ()


def register_tile(
    sch: Schedule,
    main: Any,
    last: Any,
    nest: Nest,
    input_read: int,
    candidate: Candidate,
    order: int,
    target: Target,
) -> tuple[Any, Any]:
    """Tile a multiply-accumulate block, and compute `last` at each tile.

    The caller decomposes the reduction, once the enclosing loops are final.

    Returns
    -------
    tuple
        The loop over channel blocks, and the one over steps of the input channels.
    """
    tile = Tile(*(candidate[name] for name in ("rows", "columns", "lanes", "unroll")))
    rows = sample(sch, [1, 2, 4, 8], tile.rows)
    columns = sample(sch, [target.hardware.lanes], tile.columns)
    unroll = sample(sch, [1, 4], tile.unroll)
    uneven = int(sch.get(nest.position).extent) % tile.rows
    x_outer, x_inner = sch.split(nest.position, [None, rows])
    f_outer, f_inner = sch.split(nest.channel, [None, columns])
    f_vectors, f_lanes = sch.split(f_inner, [None, tile.lanes])
    k_outer, k_inner = sch.split(nest.depth, [None, unroll])

    around = (
        [*nest.outer, x_outer, f_outer]
        if order == CHANNELS_INNER
        else [*nest.chunks, f_outer, *nest.outer, x_outer]
    )
    sch.reorder(*around, *nest.kernel, k_outer, k_inner, x_inner, f_vectors, f_lanes)
    anchor = around[-1]
    if loads_input_vectors(tile, target):
        load_input_vectors(sch, main, input_read, k_outer)
    sch.reverse_compute_at(last, anchor, preserve_unit_loops=True)
    fusion.vectorize_tile(sch, fusion.loops_below(sch, last, anchor), tile.lanes)

    sch.vectorize(f_lanes)
    for loop in (k_inner, x_inner, f_vectors):
        sch.unroll(loop)
    if uneven:
        # Peels the last, narrower tile, so that no tile needs bounds checks.
        sch.annotate(x_outer, "pragma_loop_partition_hint", 1)
    return f_outer, k_outer


def load_input_vectors(sch: Schedule, main: Any, input_read: int, loop: Any) -> None:
    """Read the tile's input as vectors along the reduction, into registers."""
    # "global", not "local": TVM 0.27 allocates a small global buffer on the stack, which
    # LLVM promotes to registers, but requests workspace from the runtime for a local one.
    # For this block alone: a residual connection also reads the input, elsewhere.
    copy = sch.cache_read(main, input_read, "global", consumer_blocks=[main])
    sch.compute_at(copy, loop)
    *rows, depth = fusion.loops_below(sch, copy, loop)
    sch.vectorize(depth)
    for row in rows:
        sch.unroll(row)

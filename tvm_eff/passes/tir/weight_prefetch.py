"""Prefetch the next block of weights while the current one is used.

In a network a kernel's weights are not in the near caches: the previous kernels have evicted
them. A schedule that iterates over its packed weights block by block annotates the innermost
loop over a block with :data:`tvm_eff.passes.attributes.PREFETCH`; each iteration then
prefetches a few cache lines of the next block.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

from tvm_eff.errors import BuildError
from tvm_eff.passes.attributes import PREFETCH
from tvm_eff.passes.tir._loops import rebuilt
from tvm_eff.targets import FLOAT32_BYTES

LINE_BYTES = 64

# The arguments of LLVM's prefetch: read, into the L1 cache, data. On Zen 5 prefetching into
# the L2 cache alone had no effect on kernels with megabytes of weights.
_READ, _FIRST_CACHE, _DATA = 0, 3, 1


def prefetch_weights(mod: tvm.IRModule) -> tvm.IRModule:
    """Return `mod` with the prefetches that its schedules annotate.

    Raises
    ------
    BuildError
        An annotated loop reads no packed weights.
    """
    marked = {
        variable: func.with_body(_insert(func.body, ()))
        for variable, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc) and _has_mark(func.body)
    }
    if not marked:
        return mod
    return tvm.IRModule(dict(mod.functions_items()) | marked, attrs=mod.attrs)


def _children(stmt: tirx.Stmt) -> list[tirx.Stmt]:
    if isinstance(stmt, tirx.For):
        return [stmt.body]
    if isinstance(stmt, tirx.SeqStmt):
        return list(stmt.seq)
    if isinstance(stmt, SBlockRealize):
        return [stmt.block.body]
    return []


def _has_mark(stmt: tirx.Stmt) -> bool:
    if isinstance(stmt, tirx.For) and PREFETCH in stmt.annotations:
        return True
    return any(_has_mark(child) for child in _children(stmt))


def _insert(stmt: tirx.Stmt, enclosing: tuple[tirx.For, ...]) -> tirx.Stmt:
    """Rebuild `stmt`, nested in the loops `enclosing`, with prefetches."""
    if isinstance(stmt, tirx.For):
        return _insert_loop(stmt, (*enclosing, stmt))
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_insert(child, enclosing) for child in stmt.seq])
    if isinstance(stmt, SBlockRealize):
        block = stmt.block
        body = _insert(block.body, enclosing)
        rebuilt = SBlock(
            block.iter_vars,
            block.reads,
            block.writes,
            block.name_hint,
            body,
            block.init,
            block.alloc_buffers,
            block.match_buffers,
            block.annotations,
        )
        return SBlockRealize(stmt.iter_values, stmt.predicate, rebuilt)
    return stmt


def _insert_loop(loop: tirx.For, enclosing: tuple[tirx.For, ...]) -> tirx.Stmt:
    body, annotations = _insert(loop.body, enclosing), dict(loop.annotations)
    if PREFETCH in annotations:
        blocks, columns, passes = (int(n) for n in annotations.pop(PREFETCH))
        fetches = _fetches(_weights(loop.body, blocks, columns), blocks, passes, enclosing)
        body = tirx.stmt_seq(*fetches, body)
    return rebuilt(loop, body, annotations)


def _weights(stmt: tirx.Stmt, blocks: int, columns: int) -> Any:
    """Return the packed buffer, [blocks ...]...[channel in block], that the last block reads."""
    if isinstance(stmt, SBlockRealize):
        written = [region.source for region in stmt.block.writes]
        packed = [
            region.source
            for region in stmt.block.reads
            if _is_packed(region.source, blocks, columns)
            and not any(region.source.same_as(each) for each in written)
        ]
        if packed:
            # An activation of matching extents has one dimension less.
            return max(packed, key=lambda buffer: len(buffer.shape))
    inner = _children(stmt)
    if not inner:
        raise BuildError(
            f"a schedule annotates a loop to prefetch {blocks} blocks of {columns} channels, but "
            "the loop reads no such weights"
        )
    return _weights(inner[-1], blocks, columns)


def _is_packed(buffer: Any, blocks: int, columns: int) -> bool:
    """Whether a buffer's leading dimensions are the blocks, and its last one the channels."""
    *outer, last = (int(n) for n in buffer.shape)
    return last == columns and blocks in accumulate(outer, mul)


def _fetches(
    weights: Any, blocks: int, passes: int, enclosing: tuple[tirx.For, ...]
) -> list[tirx.Stmt]:
    """Return the prefetches of one iteration: its part of the next block's cache lines."""
    shape = [int(n) for n in weights.shape]
    lines = math.prod(shape) * FLOAT32_BYTES // (blocks * LINE_BYTES)
    *outer, inner = enclosing
    iteration, iterations = tirx.const(0, "int32"), 1
    for loop in outer:
        iteration = iteration * loop.extent + loop.loop_var
        iterations *= int(loop.extent)
    iterations_per_block = iterations // (passes * blocks)
    lines_per_iteration = -(-lines // (iterations_per_block * int(inner.extent)))
    first = (
        tirx.floormod(iteration, iterations_per_block) * inner.extent + inner.loop_var
    ) * lines_per_iteration
    block = tirx.min(
        tirx.floormod(tirx.floordiv(iteration, iterations_per_block), blocks) + 1, blocks - 1
    )
    start = tirx.address_of(tirx.BufferLoad(weights, [0] * len(shape)))
    fetches = [
        _fetch(tirx.handle_add_byte_offset(start, (block * lines + first + n) * LINE_BYTES))
        for n in range(lines_per_iteration)
    ]
    if lines_per_iteration * iterations_per_block * int(inner.extent) == lines:
        return fetches
    # The last iterations have no lines left to prefetch.
    return [
        tirx.IfThenElse(tirx.ignore_loop_partition(first < lines), tirx.stmt_seq(*fetches), None)
    ]


def _fetch(address: Any) -> tirx.Stmt:
    call = tirx.call_intrin("void", "tirx.prefetch", address, _READ, _FIRST_CACHE, _DATA)
    return tirx.Evaluate(call)

"""Padding producers and epilogue consumers of the main compute block."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_eff.schedules.analysis import blocks, epilogue, is_identity_copy, is_reduction
from tvm_eff.schedules.rule import vector_length

BYTES = ("int8", "uint8")

MAX_IMAGE_CHANNELS = 4


def inline_epilogue(sch: Schedule, block: Any) -> Any | None:
    """Inline the elementwise consumers of `block` into the last of them, and what they read beside.

    A branch that is fused with it, as the scaled input that RepVGG adds, is such a thing.

    Returns
    -------
    BlockRV or None
        The block that writes the function's output, or None when `block` does.
    """
    consumers = epilogue(sch, block)
    assert consumers is not None, "the workload was matched when the candidate was made"
    for each in (*_beside(sch, block, consumers), *consumers[:-1]):
        sch.compute_inline(each)
    return consumers[-1] if consumers else None


def _beside(sch: Schedule, block: Any, consumers: list[Any]) -> list[Any]:
    """The elementwise producers that the consumers of `block` alone read, in program order."""
    inside = [str(sch.get(each).name_hint) for each in (block, *consumers)]
    found: list[Any] = []
    for each in reversed(blocks(sch)):
        statement = sch.get(each)
        readers = [str(sch.get(reader).name_hint) for reader in sch.get_consumers(each)]
        if str(statement.name_hint) in inside or not readers or is_reduction(statement):
            continue
        if inside[0] not in readers and all(reader in inside for reader in readers):
            inside.append(str(statement.name_hint))
            found.insert(0, each)
    return found


def inline_copies(sch: Schedule, block: Any) -> list[Any]:
    """Inline the producers of `block` that only copy, and return those that pad."""
    kept = []
    for producer in sch.get_producers(block):
        if is_identity_copy(sch.get(producer)):
            sch.compute_inline(producer)
        elif not is_reduction(sch.get(producer)):
            kept.append(producer)
    return kept


def schedule_elementwise(sch: Schedule, block: Any, lanes: int) -> None:
    """Parallelize the outer loops of an elementwise block and vectorize the innermost."""
    *outer, inner = sch.get_loops(block)
    if len(outer) > 1 and _makes_few_bytes(sch, block):
        # LLVM makes vectors of the positions, and stores of the channels side by side, where no
        # position tests for padding.
        *outer, positions = outer
        sch.unroll(inner)
        sch.annotate(positions, "pragma_loop_partition_hint", 1)
        sch.parallel(sch.fuse(*outer))
        return
    length = vector_length(int(sch.get(inner).extent), lanes)
    if length > 1:
        inner, vector = sch.split(inner, [None, length])
        sch.vectorize(vector)
        if not _divides_within_vectors(sch.get(block), length):
            # Partitions the loop where a predicate on it changes, as between the inputs of
            # a concatenation: no vector may span the boundary.
            sch.annotate(inner, "pragma_loop_partition_hint", 1)
    if outer:
        sch.parallel(sch.fuse(*outer))
    else:
        sch.parallel(inner)


def _makes_few_bytes(sch: Schedule, block: Any) -> bool:
    """Whether a block writes the channels of an image, as bytes."""
    source = sch.get(block).writes[0].source
    return str(source.dtype) in BYTES and int(source.shape[-1]) <= MAX_IMAGE_CHANNELS


def _divides_within_vectors(block: Any, length: int) -> bool:
    """Whether elements of one vector have different quotients in an index of the block.

    TVM's LoopPartition gives such a vector one side of a predicate on the quotient.
    """
    axis = block.iter_vars[-1].var

    def divides(node: Any) -> tvm_ffi.VisitInterrupt | None:
        whole = isinstance(node.b, tirx.IntImm) and int(node.b) % length == 0
        if whole or axis not in tirx.analysis.undefined_vars(node.a):
            return None
        return tvm_ffi.VisitInterrupt(node)

    division = (tirx.FloorDiv, tirx.FloorMod)
    return tvm_ffi.structural_walk(block.body, (division, divides)) is not None


def vectorize_tile(sch: Schedule, loops: list[Any], lanes: int) -> None:
    """Unroll the loops of a register tile and vectorize the innermost."""
    *outer, inner = loops
    blocks, vector = sch.split(inner, [None, lanes])
    sch.vectorize(vector)
    for loop in (*outer, blocks):
        sch.unroll(loop)


def loops_below(sch: Schedule, block: Any, loop: Any) -> list[Any]:
    """Return the loops of `block` that are nested in `loop`."""
    loops = sch.get_loops(block)
    anchor = sch.get(loop)
    depth = next(i for i, each in enumerate(loops) if sch.get(each).same_as(anchor))
    return list(loops[depth + 1 :])

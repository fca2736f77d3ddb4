"""Where in one arena each buffer lies: those that are in use at the same time do not overlap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ALIGNMENT = 64
"""Bytes of a cache line, at multiples of which buffers begin."""


@dataclass(frozen=True)
class Lifetime:
    """A buffer's bytes, and the first and the last step that uses it."""

    size: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both are in use at one time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Packing:
    """Where each buffer begins.

    Attributes
    ----------
    offsets
        In the order in which the buffers were given.
    size
        The bytes of the arena.
    least
        The most bytes in use at one time, which no packing can be below.
    """

    offsets: tuple[int, ...]
    size: int
    least: int


def pack(lifetimes: Iterable[Lifetime]) -> Packing:
    """Place buffers, the largest first, each in the smallest gap that it fits.

    The source is "greedy by size" of Pisarchyk and Lee, Efficient Memory Management for Deep
    Neural Net Inference, 2020, section 5.2.
    """
    buffers = [Lifetime(_aligned(each.size), each.first, each.last) for each in lifetimes]
    order = sorted(range(len(buffers)), key=lambda each: (-buffers[each].size, each))
    offsets: dict[int, int] = {}
    for each in order:
        beside = sorted(
            (offsets[other], buffers[other].size)
            for other in offsets
            if buffers[other].meets(buffers[each])
        )
        offsets[each] = _smallest_gap(beside, buffers[each].size)
    steps = {buffer.first for buffer in buffers}
    return Packing(
        tuple(offsets[number] for number in range(len(buffers))),
        max((offsets[each] + buffers[each].size for each in offsets), default=0),
        max((sum(b.size for b in buffers if b.first <= s <= b.last) for s in steps), default=0),
    )


def _smallest_gap(occupied: list[tuple[int, int]], size: int) -> int:
    best: tuple[int, int] | None = None
    end = 0
    for offset, length in occupied:
        gap = offset - end
        if gap >= size and (best is None or gap < best[0]):
            best = (gap, end)
        end = max(end, offset + length)
    return end if best is None else best[1]


def _aligned(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT

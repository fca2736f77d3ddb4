"""The layout a schedule chooses for a constant weight, as a TVM index map and in numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Packing:
    """Lay a weight out as [channel block][other axes][channel in block].

    With an inner block, a dot product of that length is one instruction: the innermost of the
    other axes is split, as [channel block][other axes][channel in block][place in inner block].
    Where one is a few instructions, each with a part of the inner block for a vector of channels,
    it is [channel block][other axes][vector in block][part][channel in vector][place in part].

    Attributes
    ----------
    parameter
        Index of the weight among the function's parameters.
    channel
        The weight's dimension of output channels.
    order
        The weight's other dimensions, outermost first.
    block
        Channels per block; it divides the number of channels.
    inner
        Places of the innermost other axis that lie beside one another; it divides its extent.
    part
        Those of a part, if the inner block has parts; it divides `inner`.
    lanes
        Channels of a vector, if the inner block has parts; it divides `block`.
    """

    parameter: int
    channel: int
    order: tuple[int, ...]
    block: int
    inner: int = field(default=1, kw_only=True)
    part: int = field(default=1, kw_only=True)
    lanes: int = field(default=1, kw_only=True)

    def index(self, *index: Any) -> list[Any]:
        """Return the packed index of an element, for a TVM layout transformation."""
        channel = index[self.channel]
        others = [index[dimension] for dimension in self.order]
        if self.inner == 1:
            return [channel // self.block, *others, channel % self.block]
        *outer, last = others
        place = [channel % self.block, last % self.inner]
        if self.lanes > 1:
            (of_block, of_inner), lanes, part = place, self.lanes, self.part
            # TVM finds "channel % 4 // 4" not to be independent of the channel's other parts.
            vector = of_block // lanes if self.block > lanes else of_block * 0
            place = [vector, of_inner // part, of_block % lanes, of_inner % part]
        return [channel // self.block, *outer, last // self.inner, *place]

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Return `weight` in the packed layout."""
        first = weight.transpose(self.channel, *self.order)
        blocks = first.reshape(-1, self.block, *first.shape[1:])
        if self.inner == 1:
            return np.ascontiguousarray(np.moveaxis(blocks, 1, -1))
        split = np.moveaxis(blocks.reshape(*blocks.shape[:-1], -1, self.inner), 1, -2)
        if self.lanes > 1:
            places = (self.block // self.lanes, self.lanes, self.inner // self.part, self.part)
            split = split.reshape(*split.shape[:-2], *places).swapaxes(-3, -2)
        return np.ascontiguousarray(split)


def pack_inputs(packings: Iterable[Packing], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return a function's inputs with its weights packed."""
    packed = list(inputs)
    for each in packings:
        packed[each.parameter] = each.pack(packed[each.parameter])
    return packed

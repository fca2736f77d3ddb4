"""The layout a schedule chooses for a constant weight, as a TVM index map and in numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Packing:
    """Lay a weight out as [channel block][other axes][channel in block].

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
    """

    parameter: int
    channel: int
    order: tuple[int, ...]
    block: int

    def index(self, *index: Any) -> list[Any]:
        """Return the packed index of an element, for a TVM layout transformation."""
        channel = index[self.channel]
        return [
            channel // self.block,
            *(index[dimension] for dimension in self.order),
            channel % self.block,
        ]

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Return `weight` in the packed layout."""
        first = weight.transpose(self.channel, *self.order)
        blocks = first.reshape(-1, self.block, *first.shape[1:])
        return np.ascontiguousarray(np.moveaxis(blocks, 1, -1))


def pack_inputs(packings: Iterable[Packing], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return a function's inputs with its weights packed."""
    packed = list(inputs)
    for each in packings:
        packed[each.parameter] = each.pack(packed[each.parameter])
    return packed

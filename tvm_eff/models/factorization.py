"""The interface of the papers' layers: a cheaper layer that replaces a standard one."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from torch import nn


@dataclass(frozen=True)
class Formula:
    """The cost of a factorized layer according to its paper, relative to the standard layer.

    Attributes
    ----------
    text
        The formula as the paper writes it, such as ``1/N + 1/(Kx Ky)``.
    ratio
        Its value for one layer: multiply-accumulates, and parameters but for biases.
    source
        The section or equation in the paper, or "ours" if it gives none.
    departures
        Where this layer departs from the formula's assumptions, such as ``"stride 2"``;
        if empty, the count agrees exactly.
    """

    text: str
    ratio: Fraction
    source: str
    departures: tuple[str, ...] = ()


class FactorizedLayer(nn.Module):
    """A layer with which a paper replaces a standard convolution."""

    @abstractmethod
    def standard(self) -> nn.Module:
        """Return the standard layer of the same input and output shapes, randomly initialized."""

    @abstractmethod
    def formula(self) -> Formula:
        """Return the paper's cost formula for this layer."""


def standard_twin(model: nn.Module) -> nn.Module:
    """Return a copy of `model` with every factorized layer replaced by a standard one.

    A layer that `model` shares is also shared in the copy.
    """
    copies = {id(layer): layer.standard().train(layer.training) for layer in _factorized(model)}
    # deepcopy reuses the copies in its memo.
    return copy.deepcopy(model, copies)


def _factorized(model: nn.Module) -> Iterator[FactorizedLayer]:
    """The outermost factorized layers of `model`."""
    if isinstance(model, FactorizedLayer):
        yield model
        return
    for child in model.children():
        yield from _factorized(child)

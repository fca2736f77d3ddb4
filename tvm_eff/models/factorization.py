"""What the papers' layers have in common: a cheaper layer in the place of a standard one."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from torch import nn


@dataclass(frozen=True)
class Formula:
    """What a paper says a factorized layer costs, as a fraction of the standard one.

    Attributes
    ----------
    text
        The formula as the paper writes it, such as ``1/N + 1/(Kx Ky)``.
    ratio
        Its value for one layer: multiply-accumulates, and parameters but for biases.
    source
        The section or equation it is from, or "ours" if the paper gives none.
    departures
        Where this layer departs from what the formula assumes, such as
        ``"stride 2"``; empty if it does not, and the count then agrees exactly.
    """

    text: str
    ratio: Fraction
    source: str
    departures: tuple[str, ...] = ()


class FactorizedLayer(nn.Module):
    """A layer that a paper puts in the place of a standard convolution."""

    @abstractmethod
    def standard(self) -> nn.Module:
        """Return the layer it stands for: the same shapes in and out, new random weights."""

    @abstractmethod
    def formula(self) -> Formula:
        """Return what the paper says the saving is."""


def standard_twin(model: nn.Module) -> nn.Module:
    """Return a copy of `model` with a standard layer in the place of every factorized one.

    A layer that `model` uses in several places is one layer in the copy as well.
    """
    copies = {id(layer): layer.standard().train(layer.training) for layer in _factorized(model)}
    # What deepcopy finds in its memo, it takes for copied already.
    return copy.deepcopy(model, copies)


def _factorized(model: nn.Module) -> Iterator[FactorizedLayer]:
    """Give the factorized layers of `model`, but not those within another one."""
    if isinstance(model, FactorizedLayer):
        yield model
        return
    for child in model.children():
        yield from _factorized(child)

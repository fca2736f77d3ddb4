"""Topological subdivisioning: an output channel reads a neighbourhood of input channels.

Wang, Liu and Foroosh (see `factorized.py`) arrange a layer's channels in a grid of two or
three dimensions, and connect each output channel to the input channels in a window at the
same position, which wraps around at the grid's edges. With a grid of D channels and a window
of C, the projection costs C/D of a full one.

The position of an output channel in its window is not specified: here it is the start, in
every dimension. Because of the wrap-around, any other position gives the same layer with
permuted outputs.

The projection is computed as it is defined, with one multiplication per connection: the
input channels of each window are gathered by a copy, followed by a grouped 1x1 convolution
with one group per window. Outputs whose windows hold the same channels, because a window
spans the grid's last dimensions, share a group and its copy.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import prod

import torch
from torch import nn

from tvm_eff.errors import ModelError
from tvm_eff.models.factorization import FactorizedLayer, Formula


class TopologicalProjection(nn.Module):
    """A 1x1 convolution in which an output channel reads a window of a grid of channels.

    Parameters
    ----------
    grid
        The grid's size in each of two or three dimensions; channels are numbered with the
        last dimension varying fastest.
    window
        The window's size in each dimension.

    Raises
    ------
    ModelError
        The grid has another number of dimensions, or the window does not fit into it.
    """

    index: torch.Tensor

    def __init__(self, grid: tuple[int, ...], window: tuple[int, ...]) -> None:
        super().__init__()
        _require_fitting(grid, window)
        self.grid, self.window = grid, window
        # In the dimensions that a window spans, all positions share the same window.
        spanned = sum(1 for _ in _trailing(grid, window))
        corners = itertools.product(*(range(size) for size in grid[: len(grid) - spanned]))
        windows = [_channels(grid, window, (*corner, *[0] * spanned)) for corner in corners]
        index = torch.tensor(windows).flatten()
        self.register_buffer("index", index, persistent=False)
        self.project = nn.Conv2d(len(index), prod(grid), 1, groups=len(windows), bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, H, W) to the same shape."""
        return self.project(x.index_select(1, self.index))


class TopologicalLayer(FactorizedLayer):
    """An intra-channel convolution, then a projection within each window of channels.

    Parameters
    ----------
    grid, window
        As of :class:`TopologicalProjection`; the channels in and out are the grid's.
    kernel
        Height and width of the filters, k.

    Raises
    ------
    ModelError
        As for :class:`TopologicalProjection`.
    """

    def __init__(self, grid: tuple[int, ...], window: tuple[int, ...], kernel: int = 3) -> None:
        super().__init__()
        self.channels, self.kernel = prod(grid), kernel
        self.convolve = nn.Conv2d(
            self.channels,
            self.channels,
            kernel,
            padding=kernel // 2,
            groups=self.channels,
            bias=False,
        )
        self.project = TopologicalProjection(grid, window)
        for layer in (self.convolve, self.project.project):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, H, W) to the same shape."""
        return self.project(self.convolve(x))

    def standard(self) -> nn.Module:
        """Return the standard convolution of the same shape."""
        layer = nn.Conv2d(
            self.channels, self.channels, self.kernel, padding=self.kernel // 2, bias=False
        )
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        return layer

    def formula(self) -> Formula:
        """Return the ratio that follows from the layer's definition, C channels a window."""
        area, window = self.kernel**2, prod(self.project.window)
        return Formula(
            "(k^2 + C)/(k^2 N)",
            Fraction(area + window, area * self.channels),
            "ours, from the definition in arXiv:1608.04337",
        )


def _require_fitting(grid: tuple[int, ...], window: tuple[int, ...]) -> None:
    if len(grid) not in (2, 3) or len(window) != len(grid):
        raise ModelError(
            f"channels on a grid {grid} with windows {window}: give both two or three dimensions"
        )
    if not all(1 <= part <= size for part, size in zip(window, grid, strict=True)):
        raise ModelError(f"a window {window} does not fit into a grid of channels {grid}")


def _trailing(grid: tuple[int, ...], window: tuple[int, ...]) -> itertools.takewhile[bool]:
    spans = [part == size for part, size in zip(window, grid, strict=True)]
    return itertools.takewhile(bool, reversed(spans))


def _channels(grid: tuple[int, ...], window: tuple[int, ...], corner: tuple[int, ...]) -> list[int]:
    """Return the channels in the window that starts at `corner`."""
    positions = itertools.product(
        *(
            [(start + offset) % size for offset in range(part)]
            for start, part, size in zip(corner, window, grid, strict=True)
        )
    )
    return [_flat(position, grid) for position in positions]


def _flat(position: tuple[int, ...], grid: tuple[int, ...]) -> int:
    channel = 0
    for index, size in zip(position, grid, strict=True):
        channel = channel * size + index
    return channel

"""The spatial bottleneck: a projection at a lower resolution.

Wang, Liu and Foroosh (see `factorized.py`): neighbouring pixels are correlated, so a strided
intra-channel convolution reduces the resolution, the projection runs there, and an
intra-channel transposed convolution restores the resolution.

The filter size and the handling of odd sizes are not specified: here the transposed
convolution pads its output to the input's size.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import nn

from tvm_eff.models.factorization import FactorizedLayer, Formula


class SpatialBottleneck(FactorizedLayer):
    """Strided intra-channel convolution, projection, transposed convolution back.

    Parameters
    ----------
    inputs, outputs
        Channels, M and N.
    kernel
        Height and width of the filters of both convolutions, k.
    stride
        The factor by which the resolution is reduced for the projection, s.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 2) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.kernel, self.stride = kernel, stride
        padding = (kernel - 1) // 2
        self.convolve = nn.Conv2d(
            inputs, inputs, kernel, stride, padding, groups=inputs, bias=False
        )
        self.project = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.restore = nn.ConvTranspose2d(
            outputs, outputs, kernel, stride, padding, groups=outputs, bias=False
        )
        for layer in (self.convolve, self.project):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        # An output is a sum of k^2/s^2 products on average.
        nn.init.normal_(self.restore.weight, std=stride / kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return self.restore(self.project(self.convolve(x)), output_size=x.shape[2:])

    def standard(self) -> nn.Module:
        """Return the standard convolution of the same shape."""
        layer = nn.Conv2d(self.inputs, self.outputs, self.kernel, padding="same", bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        return layer

    def formula(self) -> Formula:
        """Return the ratio that follows from the definition, for multiples of s as sizes."""
        area, m, n = self.kernel**2, self.inputs, self.outputs
        saved = self.stride**2
        departures = (f"parameters: {saved} times this share, a stride saves none",)
        return Formula(
            "(k^2 M + M N + k^2 N)/(s^2 k^2 M N)",
            Fraction(area * m + m * n + area * n, saved * area * m * n),
            "ours, from the definition in arXiv:1608.04337",
            departures if saved > 1 else (),
        )

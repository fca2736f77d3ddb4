"""Factorized networks: intra-channel convolutions and projections (arXiv:1608.04337).

Wang, Liu and Foroosh, "Factorized Convolutional Neural Networks" (ICCV workshops, 2017;
first "Design of Efficient Convolutional Layers using Single Intra-channel Convolution,
Topological Subdivisioning and Spatial 'Bottleneck' Structure", 2016). Three schemes:

- *Single intra-channel convolution*: each channel is convolved by itself, then a linear
  projection combines the channels. With b filters (bases) a channel the layer costs
  h w b m (k^2 + n) multiplications, and is a standard one when b = k^2. With b = 1, and a
  residual connection that keeps what a single basis would lose, layers are stacked.
- *Topological subdivisioning* of the channels: `topology.py`.
- *Spatial bottleneck*: intra-channel convolution with a stride, projection at the low
  resolution, intra-channel transposed convolution back: `spatial_bottleneck.py`.

Available of the paper at the time of writing were its abstracts, the definitions above, and
that it needs 7.32 times less computation than ResNet-34 at similar accuracy, so about 500
million multiply-accumulates; its tables of models were not. Assumptions:

- The stages are ResNet-34's (He et al., arXiv:1512.03385, table 1): a 7x7 convolution of
  stride 2, 3x3 max-pooling of stride 2, then 6, 8, 12 and 6 layers of 64, 128, 256 and 512
  channels at 56, 28, 14 and 7, with a single intra-channel layer instead of each 3x3
  convolution. The standard twin then is ResNet-34's computation, 6.8 times as much.
- Batch normalization and ReLU: nothing between convolution and projection, which is
  linear; batch normalization after the projection, the residual connection around all
  three, ReLU after the sum.
- The paper assumes as many channels out as in. Where a stage doubles them the layer has
  stride 2 and no residual connection, and is a plain intra-channel layer in every variant.
- Topological: windows of half the grid in each dimension, a quarter (2-D) or an eighth
  (3-D) of the connections. Grids as square as the channels allow.
- Spatial bottleneck: 3x3 with stride 2, in the layers of the first three stages; the last
  stage's 7 x 7 cannot be halved.

Weights: Kaiming initialization with gain 1, since no layer contains a ReLU; residual
branches are scaled down, so that the output stays of order one after 32 of them.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import nn

from tvm_eff.models.factorization import FactorizedLayer, Formula, standard_twin
from tvm_eff.models.spatial_bottleneck import SpatialBottleneck
from tvm_eff.models.topology import TopologicalLayer

_SOURCE = "arXiv:1608.04337, convolutional layer with bases"
# Channels, layers.
_STAGES = ((64, 6), (128, 8), (256, 12), (512, 6))
_GRIDS_2D = {64: (8, 8), 128: (8, 16), 256: (16, 16), 512: (16, 32)}
_GRIDS_3D = {64: (4, 4, 4), 128: (4, 4, 8), 256: (4, 8, 8), 512: (8, 8, 8)}


class IntraChannelLayer(FactorizedLayer):
    """Intra-channel convolution, then a linear projection across channels.

    Parameters
    ----------
    inputs, outputs
        Channels, M and N.
    kernel
        Height and width of the filters, k.
    stride
        Of the intra-channel convolution.
    bases
        Filters for each input channel, b; one is the paper's single intra-channel
        convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, bases: int = 1
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.bases = inputs, outputs, bases
        self.kernel, self.stride = kernel, stride
        self.convolve = nn.Conv2d(
            inputs, bases * inputs, kernel, stride, kernel // 2, groups=inputs, bias=False
        )
        self.project = nn.Conv2d(bases * inputs, outputs, 1, bias=False)
        for layer in (self.convolve, self.project):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H', W')."""
        return self.project(self.convolve(x))

    def standard(self) -> nn.Module:
        """Return the standard convolution of the same shape."""
        padding = self.kernel // 2
        layer = nn.Conv2d(self.inputs, self.outputs, self.kernel, self.stride, padding, bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        return layer

    def formula(self) -> Formula:
        """Return h w b m (k^2 + n) over a standard convolution's h w m n k^2."""
        area, n = self.kernel**2, self.outputs
        text = "(k^2 + N)/(k^2 N)"
        return Formula(
            text if self.bases == 1 else f"b {text}",
            Fraction(self.bases * (area + n), area * n),
            _SOURCE,
        )


class Residual(nn.Module):
    """A layer with batch normalization, a residual connection around both, and ReLU.

    Parameters
    ----------
    layer
        Maps `inputs` channels to `outputs`.
    inputs, outputs
        Channels; where they differ there is no residual connection.
    """

    def __init__(self, layer: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = layer
        self.normalize = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.is_residual = inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H', W')."""
        y = self.normalize(self.layer(x))
        return self.relu(x + y if self.is_residual else y)


class Factorized(nn.Module):
    """The network that the module docstring describes.

    Parameters
    ----------
    layer
        Returns a layer that keeps channels and resolution, given the number of channels.
    classes
        Classes of the last layer.
    """

    def __init__(self, layer: Callable[[int], nn.Module], classes: int = 1000) -> None:
        super().__init__()
        first = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(
            first,
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        layers: list[nn.Module] = []
        inputs = 64
        for channels, depth in _STAGES:
            for _ in range(depth):
                doubles = channels != inputs
                made = IntraChannelLayer(inputs, channels, 3, 2) if doubles else layer(channels)
                layers.append(Residual(made, inputs, channels))
                inputs = channels
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)
        for outer in (first, self.classifier):
            nn.init.kaiming_normal_(outer.weight, nonlinearity="relu")
        _randomize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) to class scores (B, classes)."""
        return self.classifier(torch.flatten(self.pool(self.layers(self.stem(x))), 1))


def factorized(classes: int = 1000) -> nn.Module:
    """Single intra-channel layers: 2,944,488 parameters, 534,347,008 MACs at 224 x 224."""
    return Factorized(lambda channels: IntraChannelLayer(channels, channels), classes)


def factorized_standard(classes: int = 1000) -> nn.Module:
    """The same with standard convolutions: 21,623,848 parameters, 3,644,493,824 MACs."""
    return standard_twin(factorized(classes))


def factorized_topological(classes: int = 1000) -> nn.Module:
    """Projections within windows of a 2-D grid: 1,316,328 parameters, 254,967,040 MACs."""
    return Factorized(lambda channels: _topological(_GRIDS_2D[channels]), classes)


def factorized_topological_3d(classes: int = 1000) -> nn.Module:
    """Projections within windows of a 3-D grid: 1,044,968 parameters, 208,403,712 MACs."""
    return Factorized(lambda channels: _topological(_GRIDS_3D[channels]), classes)


def factorized_bottleneck(classes: int = 1000) -> nn.Module:
    """Bottlenecks in the first three stages: 2,981,352 parameters, 292,072,192 MACs."""
    return Factorized(_bottleneck, classes)


def _topological(grid: tuple[int, ...]) -> nn.Module:
    return TopologicalLayer(grid, tuple(size // 2 for size in grid))


def _bottleneck(channels: int) -> nn.Module:
    if channels == _STAGES[-1][0]:
        return IntraChannelLayer(channels, channels)
    return SpatialBottleneck(channels, channels)


def _randomize(network: Factorized) -> None:
    """Randomize batch normalization as if trained, and keep outputs of order one."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            if module.running_mean is not None and module.running_var is not None:
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    layers = [each for each in network.modules() if isinstance(each, Residual)]
    for layer in layers:
        if layer.is_residual:
            with torch.no_grad():
                layer.normalize.weight.div_(len(layers) ** 0.5)
                layer.normalize.bias.div_(len(layers) ** 0.5)

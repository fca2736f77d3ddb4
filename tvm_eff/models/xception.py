"""Xception: deep learning with depthwise separable convolutions (arXiv:1610.02357).

Chollet, 2016. Inception's modules taken to the extreme: every one becomes *separable
convolutions*, a depthwise 3x3 followed by a pointwise 1x1 with no non-linearity in
between (section 4.7), stacked with linear residual connections. The network is figure
5: an entry flow, a middle flow of eight equal modules, an exit flow. Batch norm follows
every convolution and separable convolution (not drawn there).

What the paper does not specify is as in the author's Keras code: no biases except in the
last layer, the first two convolutions unpadded, everything else padded to keep its size.
PyTorch pads pooling on both sides where TensorFlow's "same" may pad only one; the sizes
are the same. The optional dense layers before the classifier are omitted.

Weights: Kaiming initialization, with residual branches scaled down so that the output
stays of order one. The standard twin is ours: the paper compares with Inception V3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import nn

from tvm_eff.models.factorization import FactorizedLayer, Formula, standard_twin
from tvm_eff.models.initialize import kaiming, randomize_batch_norm

_MIDDLE_MODULES = 8


class SeparableConvolution(FactorizedLayer):
    """Depthwise 3x3, then pointwise convolution, without nonlinearity between (section 4.7).

    Parameters
    ----------
    inputs, outputs
        Channels, M and N.
    """

    kernel = 3

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.depthwise = nn.Conv2d(
            inputs, inputs, self.kernel, padding=1, groups=inputs, bias=False
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return self.pointwise(self.depthwise(x))

    def standard(self) -> nn.Module:
        """Return the standard convolution."""
        layer = nn.Conv2d(self.inputs, self.outputs, self.kernel, padding=1, bias=False)
        kaiming(layer)
        return layer

    def formula(self) -> Formula:
        """Return 1/N + 1/(Kx Ky), given by Howard et al. for the same layer."""
        ratio = Fraction(1, self.outputs) + Fraction(1, self.kernel**2)
        return Formula("1/N + 1/(Kx Ky)", ratio, "arXiv:1704.04861, section 3.1")


class Module(nn.Module):
    """Separable convolutions with a residual connection (figure 5).

    Parameters
    ----------
    channels
        Of the input, and after each separable convolution.
    activate_first
        Whether a ReLU precedes the first one too.
    shrink
        Whether the module ends in pooling of stride 2; its residual connection is then a
        strided 1x1 convolution.
    """

    def __init__(
        self, channels: Sequence[int], activate_first: bool = True, shrink: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
            if index or activate_first:
                layers.append(nn.ReLU())
            layers += [SeparableConvolution(inputs, outputs), nn.BatchNorm2d(outputs)]
        shortcut: nn.Module = nn.Identity()
        if shrink:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            shortcut = nn.Sequential(
                nn.Conv2d(channels[0], channels[-1], 1, stride=2, bias=False),
                nn.BatchNorm2d(channels[-1]),
            )
        self.body, self.shortcut = nn.Sequential(*layers), shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C', H / 2, W / 2), or to its own shape."""
        return self.body(x) + self.shortcut(x)


class Xception(nn.Module):
    """Xception (figure 5), for images of 299 x 299.

    Parameters
    ----------
    classes
        Classes of the last layer.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.entry = nn.Sequential(
            *_convolution(3, 32, stride=2),
            *_convolution(32, 64, stride=1),
            Module([64, 128, 128], activate_first=False),
            Module([128, 256, 256]),
            Module([256, 728, 728]),
        )
        self.middle = nn.Sequential(
            *(Module([728] * 4, shrink=False) for _ in range(_MIDDLE_MODULES))
        )
        self.exit = nn.Sequential(
            Module([728, 728, 1024]), *_separable(1024, 1536), *_separable(1536, 2048)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(2048, classes)
        _initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) to class scores (B, classes)."""
        x = self.exit(self.middle(self.entry(x)))
        return self.classifier(torch.flatten(self.pool(x), 1))


def xception(classes: int = 1000) -> nn.Module:
    """Xception: 22,855,952 parameters, 8,357,403,496 MACs at 299 x 299."""
    return Xception(classes)


def xception_standard(classes: int = 1000) -> nn.Module:
    """Xception with every separable convolution replaced by a standard 3x3 one."""
    return standard_twin(Xception(classes))


def _convolution(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def _separable(inputs: int, outputs: int) -> list[nn.Module]:
    return [SeparableConvolution(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU()]


def _initialize(model: Xception) -> None:
    kaiming(model)
    for layer in model.modules():
        if isinstance(layer, SeparableConvolution):
            # Without a ReLU before it, half of its input is not zeroed.
            kaiming(layer.pointwise, nonlinearity="linear")
    randomize_batch_norm(model)
    modules = [each for each in model.modules() if isinstance(each, Module)]
    for module in modules:
        last = [each for each in module.body if isinstance(each, nn.BatchNorm2d)][-1]
        with torch.no_grad():
            last.weight.div_(math.sqrt(len(modules)))
            last.bias.div_(math.sqrt(len(modules)))

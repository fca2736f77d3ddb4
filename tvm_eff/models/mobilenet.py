"""MobileNets: efficient CNNs for mobile vision applications (arXiv:1704.04861).

Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto and Adam, 2017. A standard
convolution becomes a *depthwise* one, which filters each channel separately, and a
*pointwise* one, 1x1, which combines channels (section 3.1); batch normalization and
ReLU follow both (figure 3). The network is table 1, with the width multiplier alpha
(section 3.3) and the resolution multiplier (section 3.4), here given as the resolution.

Not specified in the paper: padding is one pixel on every side, where TensorFlow's "same"
pads below and to the right for stride 2; alpha times the channels is truncated. Table 1
gives the last depthwise layer stride 2 with an unchanged size: its stride is 1, as in the
authors' code.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import nn

from tvm_eff.models.factorization import FactorizedLayer, Formula, standard_twin
from tvm_eff.models.initialize import kaiming, randomize_batch_norm

# Output channels and stride of each depthwise separable layer (table 1).
_LAYERS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


class DepthwiseSeparable(FactorizedLayer):
    """Depthwise 3x3 and pointwise convolution, each with batch norm and ReLU (figure 3).

    Parameters
    ----------
    inputs, outputs
        Channels, M and N.
    stride
        Of the depthwise convolution.
    """

    kernel = 3

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.inputs, self.outputs, self.stride = inputs, outputs, stride
        self.depthwise = nn.Sequential(
            nn.Conv2d(inputs, inputs, self.kernel, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
        )
        self.pointwise = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return self.pointwise(self.depthwise(x))

    def standard(self) -> nn.Module:
        """Return the standard convolution with batch norm and ReLU (figure 3, left)."""
        layer = _convolution(self.inputs, self.outputs, self.stride)
        _initialize(layer)
        return layer

    def formula(self) -> Formula:
        """Return 1/N + 1/Dk^2 (section 3.1), which holds for any stride."""
        ratio = Fraction(1, self.outputs) + Fraction(1, self.kernel**2)
        return Formula("1/N + 1/(Kx Ky)", ratio, "arXiv:1704.04861, section 3.1")


class MobileNet(nn.Module):
    """MobileNet v1 (table 1).

    Parameters
    ----------
    width
        The width multiplier alpha, on the channels of every layer.
    classes
        Classes of the last layer.
    """

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        inputs = _scaled(32, width)
        layers: list[nn.Module] = [_convolution(3, inputs, stride=2)]
        for channels, stride in _LAYERS:
            outputs = _scaled(channels, width)
            layers.append(DepthwiseSeparable(inputs, outputs, stride))
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)
        _initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) to class scores (B, classes)."""
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


def mobilenet(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """MobileNet: 4,231,976 parameters, 568,740,352 MACs at width 1 and 224 x 224."""
    return MobileNet(width, classes)


def mobilenet_standard(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """The paper's "Conv MobileNet" (table 4), with standard convolutions: 4866 million MACs."""
    return standard_twin(MobileNet(width, classes))


def _scaled(channels: int, width: float) -> int:
    return max(1, int(channels * width))


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _initialize(model: nn.Module) -> None:
    kaiming(model)
    randomize_batch_norm(model)

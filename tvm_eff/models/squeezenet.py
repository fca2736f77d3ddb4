"""SqueezeNet: AlexNet-level accuracy with 50x fewer parameters (arXiv:1602.07360).

Iandola, Han, Moskewicz, Ashraf, Dally and Keutzer, 2016. A *fire module*
squeezes its input with a 1x1 convolution and expands it again with 1x1 and 3x3
convolutions side by side (section 3.2, figure 1); the network is table 1. Version
1.1 is the authors' later release with 2.4 times less computation: a smaller first
convolution, pooling moved towards the input.

What the paper leaves open: the pooling is ceil-mode (as in the released Caffe
model), the first convolution has no padding (224 becomes 109 in 1.0), and the
weights' initialisation, for which Kaiming's uniform for ReLU is used here: under
PyTorch's default one the output hardly depends on the image, and a library with
any mistake in it would still seem to agree.
"""

from __future__ import annotations

import torch
from torch import nn


class Fire(nn.Module):
    """A fire module (paper, section 3.2).

    Parameters
    ----------
    inputs
        Channels of the input.
    squeeze
        Channels of the 1x1 squeeze convolution (s1x1).
    expand
        Channels of each of the two expand convolutions (e1x1 and e3x3); the
        output has twice as many.
    """

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, 2 * expand, H, W)."""
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], dim=1)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _features_1_0() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 96, 7, stride=2),
        nn.ReLU(),
        _pool(),
        Fire(96, 16, 64),
        Fire(128, 16, 64),
        Fire(128, 32, 128),
        _pool(),
        Fire(256, 32, 128),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        _pool(),
        Fire(512, 64, 256),
    ]


def _features_1_1() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        _pool(),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        _pool(),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        _pool(),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    ]


class SqueezeNet(nn.Module):
    """SqueezeNet 1.0 (table 1 of the paper) or 1.1.

    Parameters
    ----------
    version
        ``"1.0"`` or ``"1.1"``.
    classes
        Classes of the last convolution.
    """

    def __init__(self, version: str = "1.0", classes: int = 1000) -> None:
        super().__init__()
        features = {"1.0": _features_1_0, "1.1": _features_1_1}[version]
        self.features = nn.Sequential(*features())
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(512, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, 3, H, W) to class scores (N, classes)."""
        return torch.flatten(self.classifier(self.features(x)), 1)


def squeezenet_1_0() -> nn.Module:
    """SqueezeNet 1.0: 1,248,424 parameters, 818,924,576 MACs at 224 x 224."""
    return SqueezeNet("1.0")


def squeezenet_1_1() -> nn.Module:
    """SqueezeNet 1.1: 1,235,496 parameters, 349,151,936 MACs at 224 x 224."""
    return SqueezeNet("1.1")

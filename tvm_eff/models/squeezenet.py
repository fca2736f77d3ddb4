"""SqueezeNet: AlexNet-level accuracy with 50x fewer parameters (arXiv:1602.07360).

Iandola, Han, Moskewicz, Ashraf, Dally and Keutzer, 2016. A *fire module*
squeezes its input with a 1x1 convolution and expands it again with 1x1 and 3x3
convolutions side by side (section 3.2, figure 1); the network is table 1. Version
1.1 is the authors' later release with 2.4 times less computation: a smaller first
convolution, and pooling moved towards the input.

Not specified in the paper: the pooling is ceil-mode (as in the released Caffe model), the
first convolution has no padding (224 becomes 109 in 1.0), and the weights' initialization
is Kaiming's uniform for ReLU: with PyTorch's default the output hardly depends on the
image, and validation would not detect a miscompiled library.

Section 6 and figure 2 add bypasses to 1.0: a *simple* one around fire modules 3, 5, 7
and 9, whose input and output have as many channels, and in the *complex* variant a 1x1
convolution around 2, 4, 6 and 8 as well. The paper quotes 7.7 MB for the latter; with
those four convolutions it is 6.06 MiB of float32, and would be 7.94 with a convolution
around all eight: figure 2's four are implemented. There is no ReLU after the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial

import torch
from torch import nn

from tvm_eff.models.factorization import FactorizedLayer, Formula, standard_twin


class Fire(FactorizedLayer):
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
        self.inputs, self.squeezed, self.expand = inputs, squeeze, expand
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, 2 * expand, H, W)."""
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], dim=1)

    def standard(self) -> nn.Module:
        """Return the plain 3x3 convolution that the paper's strategies 1 and 2 replace."""
        layer = nn.Sequential(nn.Conv2d(self.inputs, 2 * self.expand, 3, padding=1), nn.ReLU())
        _initialize(layer)
        return layer

    def formula(self) -> Formula:
        """Return (MS + SE + 9SE)/(9M 2E): the weights of figure 1 relative to a 3x3 layer's."""
        m, s, e = self.inputs, self.squeezed, self.expand
        ratio = Fraction(m * s + s * e + 9 * s * e, 9 * m * 2 * e)
        return Formula("(M S + S E + 9 S E)/(9 M 2E)", ratio, "ours, from figure 1")


class Bypass(nn.Module):
    """A fire module with a bypass connection (figure 2).

    Parameters
    ----------
    fire
        The fire module.
    convolve
        Whether the bypass has a 1x1 convolution, to change the number of channels.
    """

    def __init__(self, fire: Fire, convolve: bool = False) -> None:
        super().__init__()
        self.fire = fire
        around = nn.Conv2d(fire.inputs, 2 * fire.expand, 1) if convolve else nn.Identity()
        self.around = around

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, 2 * expand, H, W)."""
        return self.fire(x) + self.around(x)


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


def _features_bypass(is_complex: bool) -> list[nn.Module]:
    """The layers of 1.0, with a bypass around every other fire module or around all."""
    made: list[nn.Module] = []
    for layer in _features_1_0():
        if isinstance(layer, Fire):
            keeps_channels = layer.inputs == 2 * layer.expand
            if keeps_channels or is_complex:
                made.append(Bypass(layer, convolve=not keeps_channels))
                continue
        made.append(layer)
    return made


_FEATURES: dict[str, Callable[[], list[nn.Module]]] = {
    "1.0": _features_1_0,
    "1.1": _features_1_1,
    "bypass": partial(_features_bypass, is_complex=False),
    "complex bypass": partial(_features_bypass, is_complex=True),
}


class SqueezeNet(nn.Module):
    """SqueezeNet 1.0 (table 1 of the paper), 1.1, or 1.0 with bypasses (figure 2).

    Parameters
    ----------
    version
        ``"1.0"``, ``"1.1"``, ``"bypass"`` or ``"complex bypass"``.
    classes
        Classes of the last convolution.
    """

    def __init__(self, version: str = "1.0", classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(*_FEATURES[version]())
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(512, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        _initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, 3, H, W) to class scores (N, classes)."""
        return torch.flatten(self.classifier(self.features(x)), 1)


def squeezenet_1_0(classes: int = 1000) -> nn.Module:
    """SqueezeNet 1.0: 1,248,424 parameters, 818,924,576 MACs at 224 x 224."""
    return SqueezeNet("1.0", classes)


def squeezenet_1_1(classes: int = 1000) -> nn.Module:
    """SqueezeNet 1.1: 1,235,496 parameters, 349,151,936 MACs at 224 x 224."""
    return SqueezeNet("1.1", classes)


def squeezenet_bypass(classes: int = 1000) -> nn.Module:
    """1.0 with simple bypass: the same parameters and MACs."""
    return SqueezeNet("bypass", classes)


def squeezenet_complex_bypass(classes: int = 1000) -> nn.Module:
    """1.0 with complex bypass: 1,589,672 parameters, 1,165,298,720 MACs at 224 x 224."""
    return SqueezeNet("complex bypass", classes)


def squeezenet_standard(classes: int = 1000) -> nn.Module:
    """1.0 with every fire module replaced by a plain 3x3 convolution."""
    return standard_twin(SqueezeNet("1.0", classes))


def _initialize(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")

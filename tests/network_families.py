"""Published architectures at test size: their blocks, and small networks of them."""

from __future__ import annotations

import torch
from network_modules import conv_bn
from torch import nn
from torch.nn import functional as F


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, depthwise, project, with a residual where shapes match."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expand: int = 4) -> None:
        super().__init__()
        wide = inputs * expand
        self.body = nn.Sequential(
            conv_bn(inputs, wide, 1, nn.ReLU6()),
            conv_bn(wide, wide, 3, nn.ReLU6(), groups=wide, stride=stride),
            conv_bn(wide, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return x + y if self.residual else y


def mobilenet_v2() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 8, 3, nn.ReLU6(), stride=2),
        InvertedResidual(8, 8),
        InvertedResidual(8, 16, stride=2),
        InvertedResidual(16, 16),
        conv_bn(16, 32, 1, nn.ReLU6()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(32, 10),
    )


class SqueezeExcite(nn.Module):
    """Scale every channel by a function of the channel means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = x.mean((2, 3), keepdim=True)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(scale))))


class SqueezeExciteLinear(nn.Module):
    """The same with dense layers, and a view back to four dimensions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Linear(channels, 8), nn.Linear(8, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, _, _ = x.shape
        scale = F.adaptive_avg_pool2d(x, 1).view(n, c)
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(scale)))).view(n, c, 1, 1)


class MobileNetV3Block(nn.Module):
    """Expand, depthwise, squeeze-and-excite, project."""

    def __init__(self, channels: int, excite: type[nn.Module]) -> None:
        super().__init__()
        wide = 2 * channels
        self.body = nn.Sequential(
            conv_bn(channels, wide, 1, nn.Hardswish()),
            conv_bn(wide, wide, 5, nn.Hardswish(), groups=wide),
            excite(wide),
            conv_bn(wide, channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def mobilenet_v3(excite: type[nn.Module] = SqueezeExcite) -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16, 3, nn.Hardswish(), stride=2),
        MobileNetV3Block(16, excite),
        conv_bn(16, 32, 1, nn.Hardswish()),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(32, 40, 1),
        nn.Hardswish(),
        nn.Flatten(),
        nn.Linear(40, 10),
    )


def shuffled(x: torch.Tensor, groups: int) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleNetUnit(nn.Module):
    """ShuffleNet's unit: grouped convolutions with a channel shuffle between."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.compress = conv_bn(channels, channels, 1, nn.ReLU(), groups=groups)
        self.depthwise = conv_bn(channels, channels, 3, groups=channels)
        self.expand = conv_bn(channels, channels, 1, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = shuffled(self.compress(x), self.groups)
        return F.relu(x + self.expand(self.depthwise(y)))


class ShuffleNetV2Unit(nn.Module):
    """ShuffleNet V2's unit: half of the channels bypass it, then all are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            conv_bn(half, half, 1, nn.ReLU()),
            conv_bn(half, half, 3, groups=half),
            conv_bn(half, half, 1, nn.ReLU()),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, dim=1)
        return shuffled(torch.cat([left, self.body(right)], 1), 2)


def shufflenet() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 24, 3, nn.ReLU(), stride=2),
        ShuffleNetUnit(24, 3),
        ShuffleNetV2Unit(24),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 10),
    )


class BasicBlock(nn.Module):
    """ResNet's block, with a projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, 3, nn.ReLU(), stride=stride)
        self.second = conv_bn(outputs, outputs, 3)
        changes = stride != 1 or inputs != outputs
        self.projection = conv_bn(inputs, outputs, 1, stride=stride) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(self.first(x)) + self.projection(x))


def resnet() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 16, 7, nn.ReLU(), stride=2),
        nn.MaxPool2d(3, 2, padding=1),
        BasicBlock(16, 16),
        BasicBlock(16, 32, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


class DenseBlock(nn.Module):
    """DenseNet's layers: batch norm and ReLU before the convolution, then a concatenation."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + i * growth),
                nn.ReLU(),
                nn.Conv2d(channels + i * growth, growth, 3, padding=1, bias=False),
            )
            for i in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class UNet(nn.Module):
    """Down by pooling, up by a transposed convolution, merged by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down = conv_bn(3, 8, 3, nn.ReLU())
        self.bottom = conv_bn(8, 16, 3, nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, stride=2), nn.BatchNorm2d(8))
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.down(x)
        low = self.bottom(F.max_pool2d(skip, 2))
        return self.out(torch.cat([skip, F.relu(self.up(low))], 1))


class FireBypass(nn.Module):
    """A fire module with a bypass (SqueezeNet with simple bypass)."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.one = nn.Conv2d(squeeze, channels // 2, 1)
        self.three = nn.Conv2d(squeeze, channels // 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(y)), F.relu(self.three(y))], 1) + x

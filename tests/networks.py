"""Small networks of every kind a user may bring: test material."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Example:
    """A network and the shapes of its inputs.

    Attributes
    ----------
    make
        Builds the network, with random weights and statistics.
    shapes
        One shape an input.
    transposes
        How many rearrangements its own definition asks for, such as channel shuffles,
        that are not the network's first or last kernel.
    """

    make: Callable[[], nn.Module]
    shapes: tuple[Shape, ...]
    transposes: int = 0


def randomize(model: nn.Module) -> nn.Module:
    """Give every batch norm statistics and weights that do something."""
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                if norm.running_mean is not None and norm.running_var is not None:
                    norm.running_mean.normal_(std=0.3)
                    norm.running_var.uniform_(0.5, 2.0)
                if norm.affine:
                    norm.weight.uniform_(0.5, 2.0)
                    norm.bias.normal_(std=0.3)
    return model.eval()


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    activation: nn.Module | None = None,
    **options: object,
) -> nn.Sequential:
    """Return a convolution without bias, batch norm, and an activation."""
    both = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = options.pop("padding", tuple(k // 2 for k in both))
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False, **options)  # type: ignore[arg-type]
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([activation] if activation is not None else []))


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, depthwise, project, with a residual where it fits."""

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
    """Scale every channel by what its mean says."""

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
    """ShuffleNet V2's unit: half of the channels pass by, then all are shuffled."""

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


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)


class Residual(nn.Module):
    """A convolution, its input added, and ReLU."""

    def __init__(self, channels: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.convolution(x) + x)


class UNet(nn.Module):
    """Down by pooling, up by a transposed convolution, joined by concatenation."""

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
    """A fire module whose input passes by (SqueezeNet with simple bypass)."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.one = nn.Conv2d(squeeze, channels // 2, 1)
        self.three = nn.Conv2d(squeeze, channels // 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(y)), F.relu(self.three(y))], 1) + x


class SharedConvolution(nn.Module):
    """One convolution used twice, batch norm behind one use alone."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.convolution(x)) + self.convolution(torch.tanh(x)))


class SharedOutput(nn.Module):
    """One convolution's output, with and without its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.convolution(x)
        return F.relu(self.norm(y)) + y


class NormalizedInput(nn.Module):
    """Subtracts the mean image and divides by the deviation before the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.body = conv_bn(3, 16, 3, nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body((x - self.mean) / self.deviation)


class ChannelAttention(nn.Module):
    """Maximum and mean over the positions, then over the channels (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.spatial = nn.Conv2d(8, 8, 1), nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolution(x)
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True))
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial(both))


class Branches(nn.Module):
    """A convolution, and several layers that each read its output."""

    def __init__(self, *branches: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, channels, 3, padding=1)
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.convolution(x)
        return tuple(branch(x) for branch in self.branches)


class PerChannel(nn.Module):
    """The same numbers of channels in and out, the function between two convolutions."""

    def __init__(self, *functions: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.functions = nn.ModuleList(functions)
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in functions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution, function in zip(self.convolutions, self.functions, strict=True):
            x = function(convolution(x))
        return x


def sequence(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


def per_channel(*functions: nn.Module) -> Callable[[], nn.Module]:
    """Return each function between convolutions of eight channels."""
    return sequence(nn.Conv2d(3, 8, 3, padding=1), PerChannel(*functions), nn.Conv2d(8, 4, 1))


def image(height: int, width: int | None = None, channels: int = 3, batch: int = 1) -> Shape:
    return (batch, channels, height, width or height)


NETWORKS = {
    "mobilenet_v2_odd_input": Example(mobilenet_v2, (image(97, 131, batch=2),)),
    "mobilenet_v3": Example(mobilenet_v3, (image(32),)),
    "mobilenet_v3_dense_excitation": Example(
        lambda: mobilenet_v3(SqueezeExciteLinear), (image(16, batch=3),)
    ),
    "shufflenet": Example(shufflenet, (image(16, 24, batch=2),), transposes=2),
    "resnet": Example(resnet, (image(33, 47, batch=2),)),
    "densenet": Example(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), DenseBlock(8, 4, 2), nn.AvgPool2d(2)),
        (image(16),),
    ),
    "unet": Example(UNet, (image(16, 24),), transposes=1),
    "fire_bypass": Example(
        sequence(nn.Conv2d(3, 16, 3), FireBypass(16, 4), nn.MaxPool2d(3, 2)), (image(16),)
    ),
    "rectifiers": Example(
        per_channel(nn.ReLU6(), nn.PReLU(8), nn.PReLU(), nn.LeakyReLU(0.1), nn.Hardtanh(-0.5, 0.7)),
        (image(16),),
    ),
    "activations": Example(
        per_channel(
            *(nn.ELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus()),
            *(nn.Hardsigmoid(), nn.Hardswish(), nn.Softsign(), nn.Tanhshrink()),
        ),
        (image(9),),
    ),
    "softmax_of_channels": Example(per_channel(nn.Softmax(1), nn.LogSoftmax(1)), (image(9),)),
    "pooling": Example(
        lambda: Branches(
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.MaxPool2d(3, 2, dilation=2),
            nn.AdaptiveAvgPool2d((5, 4)),
        ),
        (image(17, 13),),
    ),
    "adaptive_pooling_of_equal_parts": Example(
        per_channel(nn.AdaptiveAvgPool2d((4, 3))), (image(16, 12),)
    ),
    "average_pooling": Example(
        lambda: Branches(
            nn.AvgPool2d(3, 2, padding=1, count_include_pad=True),
            nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
            nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=True),
            nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
            nn.AvgPool2d(2, ceil_mode=True),
        ),
        (image(17, 14),),
    ),
    "convolutions": Example(
        sequence(
            conv_bn(3, 8, 3, nn.ReLU(), padding=2, dilation=2),
            conv_bn(8, 8, 3, nn.ReLU(), groups=2),
            nn.Conv2d(8, 8, 1, stride=3),
            nn.Conv2d(8, 8, 11, padding=5, groups=8),
            nn.Conv2d(8, 4, 1),
        ),
        (image(25, 22),),
    ),
    "depthwise_multiplier": Example(
        sequence(nn.Conv2d(3, 8, 1), conv_bn(8, 16, 3, nn.ReLU6(), groups=8), nn.Conv2d(16, 4, 1)),
        (image(15, batch=2),),
    ),
    "flattened_filters": Example(
        sequence(
            nn.Conv2d(3, 16, 1),
            nn.Conv2d(16, 16, (3, 1), padding=(1, 0), groups=16),
            nn.Conv2d(16, 16, (1, 3), padding=(0, 1), groups=16),
            nn.ReLU(),
        ),
        (image(16, 11),),
    ),
    "odd_channels": Example(
        sequence(conv_bn(1, 5, 5, nn.ReLU()), conv_bn(5, 3, (1, 5), nn.ReLU()), nn.Conv2d(3, 1, 3)),
        (image(13, channels=1),),
    ),
    "transposed": Example(
        lambda: Branches(
            nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1),
            nn.ConvTranspose2d(8, 4, 3, stride=3, output_padding=1, bias=False),
            nn.ConvTranspose2d(8, 8, 1, stride=2),
            nn.ConvTranspose2d(8, 6, 5, stride=(2, 1), padding=3),
        ),
        (image(9, 7, batch=2),),
    ),
    "transposed_groups_and_dilation": Example(
        lambda: Branches(
            nn.ConvTranspose2d(8, 16, 4, stride=2, padding=1, groups=4),
            nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1, groups=8),
            nn.ConvTranspose2d(8, 8, 3, stride=2, dilation=2),
        ),
        (image(6),),
    ),
    "transposed_stride_1": Example(
        per_channel(nn.ConvTranspose2d(8, 8, 3, padding=1)), (image(9),)
    ),
    "transposed_batch_norm": Example(
        sequence(
            nn.Conv2d(3, 8, 1),
            nn.ConvTranspose2d(8, 12, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ConvTranspose2d(12, 12, 3, groups=3),
            nn.BatchNorm2d(12),
            nn.ReLU(),
        ),
        (image(6, 7),),
        transposes=1,
    ),
    "pixel_shuffle": Example(
        sequence(nn.Conv2d(3, 12, 3), nn.PixelShuffle(2), nn.Conv2d(3, 4, 3)),
        (image(9),),
        transposes=1,
    ),
    "resizing": Example(
        lambda: Branches(
            nn.Upsample(scale_factor=2),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Upsample((11, 13), mode="bilinear", align_corners=True),
            nn.ZeroPad2d((0, 1, 2, 3)),
            nn.ReflectionPad2d(2),
            Applied(lambda x: x[:, :, 1:-1, 2:]),
        ),
        (image(7, 5),),
    ),
    "split": Example(
        per_channel(
            Applied(lambda x: torch.cat([t * (i + 1) for i, t in enumerate(x.split(3, 1))], 1))
        ),
        (image(7),),
    ),
    "flatten_linear": Example(
        sequence(
            *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout()),
            *(nn.Linear(8 * 3 * 5, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10)),
        ),
        (image(8, 12, batch=2),),
    ),
    "flatten_batch_norm_linear": Example(
        sequence(
            *(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.BatchNorm1d(4 * 3 * 2), nn.ReLU6()),
            nn.Linear(24, 5, bias=False),
        ),
        (image(5, 4, batch=4),),
    ),
    "flattened_output": Example(sequence(nn.Conv2d(3, 4, 3), nn.Flatten()), (image(5, batch=2),)),
    "batch_norms": Example(
        sequence(
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8, affine=False),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.BatchNorm2d(8),
        ),
        (image(9),),
    ),
    "shared_convolution": Example(SharedConvolution, (image(9, channels=8),)),
    "shared_output": Example(SharedOutput, (image(9, channels=8),)),
    "normalized_input": Example(NormalizedInput, (image(16),)),
    "channel_attention": Example(ChannelAttention, (image(9, channels=8),)),
    "two_inputs": Example(
        lambda: Applied(lambda x, y: F.avg_pool2d(x, 3) * torch.sigmoid(y)),
        (image(9), image(3)),
    ),
    "one_dimension": Example(
        sequence(
            *(nn.Conv1d(3, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.AvgPool1d(2)),
            *(nn.ConvTranspose1d(8, 8, 4, stride=2), nn.Conv1d(8, 4, 3)),
        ),
        ((2, 3, 32),),
    ),
    "three_dimensions": Example(
        sequence(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2)),
        ((1, 2, 6, 6, 6),),
    ),
    "normalizations": Example(
        per_channel(
            Applied(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), [8]).permute(0, 3, 1, 2)),
            nn.GroupNorm(2, 8),
        ),
        (image(8),),
    ),
    "local_response_norm": Example(per_channel(nn.LocalResponseNorm(5)), (image(8),), transposes=2),
    "dense_only": Example(
        sequence(nn.Linear(16, 33), nn.BatchNorm1d(33), nn.ReLU(), nn.Linear(33, 5), nn.Softmax(1)),
        ((7, 16),),
    ),
}


def made(name: str) -> tuple[nn.Module, list[torch.Tensor]]:
    """Return a network and inputs for it, the same every time."""
    torch.manual_seed(0)
    example = NETWORKS[name]
    model = randomize(example.make())
    return model, [torch.randn(*shape) for shape in example.shapes]

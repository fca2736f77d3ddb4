"""Building blocks of test networks: single-purpose modules, and the convolutions they share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


def randomize(model: nn.Module) -> nn.Module:
    """Randomize statistics and weights of every batch norm."""
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


class ParallelBranches(nn.Module):
    """RepVGG's: two convolutions and the scaled input itself, added up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.three, self.one = conv_bn(channels, channels, 3), conv_bn(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.three(x) + self.one(x) + self.norm(x))


class SharedConvolution(nn.Module):
    """One convolution used twice, with batch norm after one use only."""

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

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.body = conv_bn(3, 16, 3, nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body((x - self.mean) / self.deviation)


class ChannelAttention(nn.Module):
    """Attention by maximum and mean over the positions, then over the channels (CBAM)."""

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
    """Channel-preserving functions, each after a pointwise convolution."""

    def __init__(self, *functions: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.functions = nn.ModuleList(functions)
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in functions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution, function in zip(self.convolutions, self.functions, strict=True):
            x = function(convolution(x))
        return x

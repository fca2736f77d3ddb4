"""Layers by chance: convolutions, norms and activations of every kind for given channels."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

import torch
from network_modules import Applied
from torch import nn
from torch.nn import functional as F

_POINTWISE: tuple[Callable[[], nn.Module], ...] = (
    *(nn.ReLU, nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.CELU),
    *(nn.Mish, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid),
    *(nn.Tanhshrink, nn.Identity, nn.PReLU),
)
_FUNCTIONS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    *(
        torch.relu,
        lambda x: x.clamp(-1, 2),
        lambda x: x.clamp_min(0.1),
        lambda x: F.leaky_relu(x, 0.3),
    ),
    *(lambda x: x * torch.sigmoid(1.702 * x), lambda x: F.gelu(x, approximate="tanh")),
    *(
        lambda x: F.softplus(x, 2.0),
        lambda x: torch.where(x > 0, x, 0.25 * x),
        lambda x: x.abs().sqrt(),
    ),
    *(
        lambda x: torch.maximum(x, 0.1 * x),
        lambda x: (x**2 + 1).rsqrt() * x,
        lambda x: torch.erf(x),
    ),
    *(lambda x: x / (1 + x.abs()), lambda x: 1 - torch.exp(-F.relu(x)), torch.sin, torch.atan),
    *(
        lambda x: x.mul(0.5).add_(1),
        lambda x: torch.log1p(x.abs()),
        lambda x: F.threshold(x, 0.0, -0.0),
    ),
)


def activation(rng: random.Random, channels: int = 0) -> nn.Module:
    """Return a function of each value, perhaps with parameters for each of the channels."""
    if channels and rng.random() < 0.1:
        return nn.PReLU(channels)
    if rng.random() < 0.3:
        return Applied(rng.choice(_FUNCTIONS))
    return rng.choice(_POINTWISE)()


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map, as ConvNeXt has it."""

    def __init__(self, channels: int, permuted: bool) -> None:
        super().__init__()
        self.norm, self.permuted = nn.LayerNorm(channels, eps=1e-6), permuted

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.permuted:
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        centred = x - x.mean(1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(1, keepdim=True) + self.norm.eps).sqrt()
        return self.norm.weight[:, None, None] * scaled + self.norm.bias[:, None, None]


class Affine(nn.Module):
    """A scale and an offset for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(1, channels, 1, 1) + 0.5)
        self.offset = nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.offset


class ResponseNorm(nn.Module):
    """Global response normalization, as ConvNeXt V2 has it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(channels, 1, 1))
        self.beta = nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        power = x.norm(p=2, dim=(2, 3), keepdim=True)
        return self.gamma * (x * (power / (power.mean(1, keepdim=True) + 1e-6))) + self.beta + x


class OnlineStatistics(nn.Module):
    """Batch norm by the batch's own statistics, as it is without running ones."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


def norm(rng: random.Random, x: torch.Tensor) -> nn.Module:
    """Return a norm of maps like `x`."""
    channels = x.shape[1]
    groups = max(g for g in (1, 2, 3, 4) if channels % g == 0)
    kinds: tuple[Callable[[], nn.Module], ...] = (
        *(lambda: nn.BatchNorm2d(channels),) * 4,
        lambda: nn.BatchNorm2d(channels, eps=1e-3, affine=False),
        lambda: OnlineStatistics(channels),
        lambda: nn.GroupNorm(groups, channels),
        lambda: nn.GroupNorm(1, channels, affine=False),
        lambda: nn.InstanceNorm2d(channels),
        lambda: nn.InstanceNorm2d(channels, affine=True),
        lambda: nn.InstanceNorm2d(channels, affine=True, track_running_stats=True),
        lambda: nn.LayerNorm(x.shape[1:]),
        lambda: ChannelNorm(channels, rng.random() < 0.5),
        lambda: Applied(lambda y: F.rms_norm(y, y.shape[-2:], eps=1e-5)),
        lambda: nn.LocalResponseNorm(rng.choice((2, 3, 5))),
        lambda: Applied(lambda y: F.normalize(y, dim=1)),
        lambda: ResponseNorm(channels),
        lambda: Affine(channels),
        nn.Identity,
    )
    # The statistics of one value are no statistics.
    small = x.shape[2] * x.shape[3] < 4
    return Affine(channels) if small else rng.choice(kinds)()


def convolution(
    rng: random.Random, x: torch.Tensor, outputs: int | None = None, *, keeps: bool = False
) -> nn.Module:
    """Return a convolution of maps like `x`; one that keeps the size if it has to."""
    channels, (height, width) = x.shape[1], x.shape[2:]
    outputs = outputs or rng.choice((4, 6, 8, 12, 16, 24, 7))
    kernel = rng.choice(((1, 1), (3, 3), (3, 3), (5, 5), (1, 3), (3, 1), (7, 7), (2, 2), (1, 7)))
    if keeps and kernel == (2, 2):
        kernel = (3, 3)
    if min(height, width) < 7:
        kernel = rng.choice(((1, 1), (3, 3), (3, 1)))
    dilation = rng.choice((1, 1, 1, 2)) if min(height, width) > 10 and max(kernel) < 7 else 1
    stride: Any = 1 if keeps or min(height, width) < 8 else rng.choice((1, 1, 2, (2, 1), 3))
    shared = [g for g in (1, 2, 3, 4) if channels % g == 0 and outputs % g == 0]
    groups = rng.choice(shared) if rng.random() < 0.3 else 1
    padding: Any = tuple(dilation * (k // 2) for k in kernel)
    if keeps and rng.random() < 0.2:
        padding = "same"
    mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    if padding != "same" and rng.random() < 0.15 and min(height, width) > max(padding):
        mode = rng.choice(("reflect", "replicate", "circular"))
    return nn.Conv2d(
        *(channels, outputs, kernel, stride, padding, dilation, groups),
        bias=rng.random() < 0.6,
        padding_mode=mode,
    )


def layers(
    rng: random.Random, x: torch.Tensor, outputs: int | None = None, *, keeps: bool = False
) -> nn.Sequential:
    """Return a convolution, a norm and an activation, perhaps in another order."""
    made = convolution(rng, x, outputs, keeps=keeps)
    with torch.no_grad():
        y = made(x)
    function = activation(rng, y.shape[1])
    order = rng.random()
    if order < 0.7:
        return nn.Sequential(made, norm(rng, y), function)
    if order < 0.85:
        return nn.Sequential(norm(rng, x), activation(rng, x.shape[1]), made)
    return nn.Sequential(made, function, norm(rng, y))

"""Pooling, resizing and moving by chance: what changes the extents or the order of a map."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from network_modules import Applied
from torch import nn
from torch.nn import functional as F

Maker = Callable[[random.Random, torch.Tensor], nn.Module]
Function = Callable[[torch.Tensor], torch.Tensor]

_LEAST = 4
"""Extents below it are not made smaller."""


def _is_small(x: torch.Tensor) -> bool:
    return min(x.shape[2:]) < 2 * _LEAST


def pooling(rng: random.Random, x: torch.Tensor) -> nn.Module:
    if _is_small(x):
        return nn.MaxPool2d(3, 1, 1)
    ceil, include = rng.random() < 0.5, rng.random() < 0.5
    size = rng.choice(((5, 4), (4, 4), (7, 5), (None, 6)))
    kinds: tuple[Callable[[], nn.Module], ...] = (
        lambda: nn.MaxPool2d(rng.choice((2, 3)), 2, ceil_mode=ceil),
        lambda: nn.MaxPool2d(3, 2, 1),
        lambda: nn.MaxPool2d(2, 1, dilation=2),
        lambda: nn.MaxPool2d((2, 3)),
        lambda: nn.AvgPool2d(2, ceil_mode=ceil),
        lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=ceil, count_include_pad=include),
        lambda: nn.AvgPool2d((1, 2), divisor_override=3),
        lambda: nn.LPPool2d(2, 2) if rng.random() < 0.3 else nn.AvgPool2d(2, 1),
        lambda: nn.AdaptiveAvgPool2d(size),
        lambda: nn.AdaptiveMaxPool2d(size),
        lambda: Applied(lambda y: F.avg_pool2d(y, 2) + F.max_pool2d(y, 2)),
        # Blurred before it is thinned out, as anti-aliased networks do.
        lambda: Applied(_blurred),
    )
    return rng.choice(kinds)()


def _blurred(x: torch.Tensor) -> torch.Tensor:
    row = torch.tensor([1.0, 2.0, 1.0])
    kernel = (row[:, None] * row[None] / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def resizing(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c = x.shape[1]
    if max(x.shape[2:]) > 24:
        return Applied(
            lambda y: F.interpolate(y, scale_factor=0.5, mode="bilinear", antialias=c % 2 == 0)
        )
    size = (rng.randint(5, 20), rng.randint(5, 20))
    mode = rng.choice(("nearest", "bilinear", "bicubic", "area", "nearest-exact"))
    corners = rng.random() < 0.5 if mode in ("bilinear", "bicubic") else None
    outputs = rng.choice((4, 8, c))
    kinds: tuple[Callable[[], nn.Module], ...] = (
        lambda: nn.Upsample(scale_factor=rng.choice((2, 1.5)), mode="nearest"),
        lambda: nn.Upsample(size, mode="bilinear", align_corners=rng.random() < 0.5),
        lambda: Applied(lambda y: F.interpolate(y, size, mode=mode, align_corners=corners)),
        lambda: nn.UpsamplingBilinear2d(scale_factor=2),
        lambda: nn.Sequential(nn.Conv2d(c, 16, 3, padding=1), nn.PixelShuffle(2)),
        lambda: nn.ConvTranspose2d(c, outputs, 2, stride=2),
        lambda: nn.ConvTranspose2d(c, outputs, 4, stride=2, padding=1, bias=False),
        lambda: nn.ConvTranspose2d(c, outputs, 3, stride=2, padding=1, output_padding=1),
        lambda: nn.ConvTranspose2d(c, c, 3, padding=1, groups=c),
        lambda: nn.ConvTranspose2d(c, outputs, 3, stride=(1, 2), dilation=rng.choice((1, 2))),
        lambda: nn.Sequential(
            nn.ConvTranspose2d(c, outputs, 3, 2), nn.BatchNorm2d(outputs), nn.ReLU()
        ),
        lambda: Applied(lambda y: y.repeat_interleave(2, dim=2)),
    )
    return rng.choice(kinds)()


def moving(rng: random.Random, x: torch.Tensor) -> nn.Module:
    n, c, h, w = x.shape
    half, place = c // 2, rng.randrange(h)
    crop = (slice(None), slice(None), slice(1, None), slice(None, -1)) if not _is_small(x) else ()
    order = torch.tensor(rng.sample(range(c), c))
    kinds: tuple[Function, ...] = (
        lambda y: y.flip(3),
        lambda y: y.flip((2, 3)),
        lambda y: torch.roll(y, (1, -2), (2, 3)),
        lambda y: torch.roll(y, c // 3, 1),
        lambda y: y[crop],
        lambda y: y[:, ::2] if c > 3 else y,
        lambda y: F.pad(y, (1, 2, 0, 1)),
        lambda y: F.pad(y, (1, 1, 2, 1), mode="replicate"),
        lambda y: nn.ReflectionPad2d(2)(y),
        lambda y: y.transpose(2, 3),
        lambda y: y.transpose(2, 3).contiguous() * 2,
        lambda y: torch.cat([y, -y], 1).relu(),
        lambda y: torch.cat([y[:, half:], y[:, :half]], dim=1),
        lambda y: torch.stack([y, y.flip(2)], 0).mean(0),
        lambda y: torch.stack((y, y * 0.5), 2).flatten(1, 2),
        lambda y: torch.split(y, 3, 1)[0],
        lambda y: torch.cat(
            [part * (k + 1) for k, part in enumerate(torch.split(y, [1, c - 1], 1))], 1
        ),
        lambda y: torch.cat([y[:, :1], y[:, 1:].cumsum(1)], 1) / c,
        lambda y: y.index_select(1, order),
        lambda y: y[:, order],
        lambda y: y - y[:, :, place : place + 1],
        lambda y: y.view(n, 1, c, h, w).expand(n, 2, c, h, w).reshape(n, 2 * c, h, w),
        lambda y: y.reshape(n, c, h * w).permute(0, 2, 1).reshape(n, h, w, c).permute(0, 3, 1, 2),
        lambda y: (y - y.mean((2, 3), keepdim=True)) / (y.std((2, 3), keepdim=True) + 0.1),
        lambda y: y - F.avg_pool2d(y, 3, 1, 1),
        lambda y: y.amax(1, keepdim=True) - y,
        lambda y: y.unbind(1)[0].unsqueeze(1) * y,
        lambda y: torch.minimum(y, y.flip(3)),
        lambda y: y * torch.linspace(0, 1, w) + torch.arange(h).view(h, 1) * 0.1,
        lambda y: y.masked_fill(y < -3, -3.0),
        lambda y: torch.tril(y) + torch.triu(y, 1) * 0.5,
        lambda y: torch.einsum("nchw,cd->ndhw", y, torch.eye(c)[:, : max(1, half)]),
        _written,
        _shifted,
        lambda y: F.pixel_unshuffle(F.pad(y, (0, w % 2, 0, h % 2)), 2)[:, :16],
        lambda y: y.squeeze().view(n, c, h, w) + y.new_ones(h, w),
        lambda y: torch.where(y > y.new_zeros(()), y, torch.full_like(y, -0.1) * y),
        lambda y: torch.unflatten(y.permute(0, 2, 3, 1).flatten(0, 2), 0, (n, h, w)).movedim(-1, 1),
    )
    return Applied(rng.choice(kinds))


def _written(x: torch.Tensor) -> torch.Tensor:
    """Parts written into a map of zeros."""
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    y[:, :1] = x[:, -1:] * 2
    y[..., -1] += 1
    return y


def _shifted(x: torch.Tensor) -> torch.Tensor:
    """TSM's and ShiftNet's: some channels from the left, some from the right."""
    left = F.pad(x[:, :1, :, 1:], (0, 1))
    right = F.pad(x[:, 1:2, :, :-1], (1, 0))
    return torch.cat([left, right, x[:, 2:]], dim=1)


def volume(rng: random.Random, x: torch.Tensor) -> nn.Module:
    """Taken as a volume or as lines for a while."""
    n, c, h, w = x.shape
    convolution3 = nn.Conv3d(1, 2, 3, padding=1)
    line = nn.Conv1d(c, 6, rng.choice((1, 3)), padding=0)
    kinds: tuple[Any, ...] = (
        (convolution3, lambda y: convolution3(y.unsqueeze(1)).flatten(1, 2)),
        (line, lambda y: line(y.mean(2)).unsqueeze(2).expand(n, 6, 2, -1)),
        (
            line,
            lambda y: (
                line(y.permute(0, 2, 1, 3).reshape(n * h, c, w))
                .reshape(n, h, 6, -1)
                .transpose(1, 2)
            ),
        ),
    )
    owned, function = rng.choice(kinds)
    made = Applied(function)
    made.owned = owned
    return made


MOVES: dict[str, Maker] = {
    "pooling": pooling,
    "resizing": resizing,
    "moving": moving,
    "volume": volume,
}

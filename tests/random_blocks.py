"""Blocks of networks by chance: each is made for maps like a given one, and returns maps."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from network_families import (
    BasicBlock,
    DenseBlock,
    FireBypass,
    InvertedResidual,
    MobileNetV3Block,
    ShuffleNetUnit,
    ShuffleNetV2Unit,
    SqueezeExcite,
    SqueezeExciteLinear,
)
from network_modules import Applied, Residual, conv_bn
from random_layers import ChannelNorm, activation, convolution, layers, norm
from torch import nn
from torch.nn import functional as F

Maker = Callable[[random.Random, torch.Tensor], nn.Module]


class Added(nn.Module):
    """Branches added up, perhaps with the input and an activation behind."""

    def __init__(self, branches: Sequence[nn.Module], after: nn.Module, weight: float = 1) -> None:
        super().__init__()
        self.branches, self.after, self.weight = nn.ModuleList(branches), after, weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.branches[0](x)
        for branch in self.branches[1:]:
            total = torch.add(total, branch(x), alpha=self.weight)
        return self.after(total)


class Concatenated(nn.Module):
    """Branches side by side."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Gated(nn.Module):
    """One branch scales the other."""

    def __init__(self, body: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.body, self.gate = body, gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) * torch.sigmoid(self.gate(x))


class Twice(nn.Module):
    """One module used twice, on the input and on its own result."""

    def __init__(self, shared: nn.Module, between: nn.Module) -> None:
        super().__init__()
        self.shared, self.between = shared, between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shared(self.between(self.shared(x))) + x


class Res2(nn.Module):
    """Res2Net's hierarchy: each part sees the one before."""

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        width = channels // parts
        self.parts = parts
        self.convolutions = nn.ModuleList(
            conv_bn(width, width, 3, nn.ReLU()) for _ in range(parts - 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *rest = torch.chunk(x, self.parts, dim=1)
        found = [first]
        for part, each in zip(rest, self.convolutions, strict=True):
            found.append(each(part + found[-1] if len(found) > 1 else part))
        return torch.cat(found, 1)


class ConvNeXt(nn.Module):
    """A large depthwise convolution, then a dense part with channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.wide, self.narrow = (
            nn.Linear(channels, 4 * channels),
            nn.Linear(4 * channels, channels),
        )
        self.scale = nn.Parameter(torch.full((channels,), 0.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


class GlobalContext(nn.Module):
    """ASPP's branch: the mean of the map, spread over it again."""

    def __init__(self, channels: int, mode: str) -> None:
        super().__init__()
        self.convolution, self.mode = nn.Conv2d(channels, channels, 1), mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.convolution(F.adaptive_avg_pool2d(x, 1)))
        corners = False if self.mode == "bilinear" else None
        return F.interpolate(y, size=x.shape[-2:], mode=self.mode, align_corners=corners)


class PyramidPooling(nn.Module):
    """PSPNet's: means over several grids, resized to the map."""

    def __init__(self, channels: int, grids: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(g), nn.Conv2d(channels, 2, 1), nn.ReLU())
            for g in grids
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.size()[2:]
        resized = [
            F.interpolate(s(x), size, mode="bilinear", align_corners=True) for s in self.stages
        ]
        return torch.cat((x, *resized), 1)


class NonLocal(nn.Module):
    """Attention between all positions of a map."""

    def __init__(self, channels: int, by_einsum: bool) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(channels, 4, 1), nn.Conv2d(channels, 4, 1)
        self.value, self.by_einsum = nn.Conv2d(channels, channels, 1), by_einsum
        self.gamma = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        small = F.max_pool2d(x, 2) if h * w > 64 else x
        query, key = self.query(x).flatten(2), self.key(small).flatten(2)
        value = self.value(small).flatten(2)
        if self.by_einsum:
            weights = torch.einsum("ncq,nck->nqk", query, key).softmax(-1)
            found = torch.einsum("nqk,nck->ncq", weights, value)
        else:
            weights = F.softmax(query.transpose(1, 2) @ key / 2, dim=2)
            found = torch.bmm(value, weights.permute(0, 2, 1))
        return x + self.gamma * found.view(n, c, h, w)


class Dynamic(nn.Module):
    """A convolution whose weights are a mixture that the input chooses."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mixtures = nn.Parameter(torch.randn(3, channels, channels, 3, 3) * 0.2)
        self.choice = nn.Linear(channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = self.choice(x.mean(dim=(0, 2, 3))).softmax(0)
        weight = (chosen.view(3, 1, 1, 1, 1) * self.mixtures).sum(0)
        return F.conv2d(x, weight, padding=1)


class Standardized(nn.Conv2d):
    """A convolution whose weights are standardized first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        spread = self.weight.var(dim=(1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) / torch.sqrt(spread + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Coordinates(nn.Module):
    """CoordConv: the places of pixels beside their channels."""

    grid: torch.Tensor

    def __init__(self, x: torch.Tensor, outputs: int) -> None:
        super().__init__()
        rows, columns = (torch.linspace(-1, 1, n) for n in x.shape[2:])
        self.register_buffer(
            "grid", torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
        )
        self.convolution = nn.Conv2d(x.shape[1] + 2, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(torch.cat([x, self.grid.expand(x.shape[0], -1, -1, -1)], 1))


class Exchange(nn.Module):
    """HRNet's: two resolutions that are added to each other."""

    def __init__(self, channels: int, mode: str) -> None:
        super().__init__()
        self.down = conv_bn(channels, 2 * channels, 3, stride=2)
        self.low = conv_bn(2 * channels, 2 * channels, 3, nn.ReLU())
        self.high, self.up = (
            conv_bn(channels, channels, 3, nn.ReLU()),
            conv_bn(2 * channels, channels, 1),
        )
        self.mode = mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low, high = self.low(self.down(x)), self.high(x)
        low = F.relu(low + self.down(high))
        return F.relu(high + F.interpolate(self.up(low), size=x.shape[2:], mode=self.mode))


class Warped(nn.Module):
    """Sampled at places that a convolution says."""

    theta: torch.Tensor

    def __init__(self, channels: int, padding: str) -> None:
        super().__init__()
        self.offsets, self.padding = nn.Conv2d(channels, 2, 3, padding=1), padding
        self.register_buffer("theta", torch.tensor([[[0.9, 0.1, 0.05], [-0.1, 1.1, 0.0]]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        theta = self.theta.expand(x.shape[0], 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        moved = grid + 0.1 * torch.tanh(self.offsets(x)).permute(0, 2, 3, 1)
        return F.grid_sample(x, moved, padding_mode=self.padding, align_corners=False)


class LocalAttention(nn.Module):
    """Each pixel looks at its window, which unfold lays out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.channels = nn.Conv2d(channels, channels, 1), channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        windows = F.unfold(x, 3, padding=1).reshape(n, c, 9, h, w)
        weights = (self.query(x).unsqueeze(2) * windows).sum(1, keepdim=True).softmax(2)
        return x + (weights * windows).sum(dim=2)


def _residual(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c = x.shape[1]
    kinds: tuple[Callable[[], nn.Module], ...] = (
        lambda: Residual(c, rng.choice((1, 3, 5)), 2 if c % 2 == 0 else 1),
        lambda: BasicBlock(c, rng.choice((c, 2 * c, 8)), rng.choice((1, 2))),
        lambda: Added([nn.Identity(), layers(rng, x, c, keeps=True)], activation(rng, c)),
        lambda: Added(
            [nn.Identity(), layers(rng, x, c, keeps=True), layers(rng, x, c, keeps=True)],
            *(norm(rng, x), rng.choice((1, 0.2, -1))),
        ),
        # RepVGG's three branches.
        lambda: Added([conv_bn(c, c, 3), conv_bn(c, c, 1), nn.BatchNorm2d(c)], nn.ReLU()),
    )
    return rng.choice(kinds)()


def _inverted(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c = x.shape[1]
    if rng.random() < 0.5:
        return InvertedResidual(c, rng.choice((c, 8)), rng.choice((1, 2)), rng.choice((1, 2, 6)))
    return MobileNetV3Block(c, rng.choice((SqueezeExcite, SqueezeExciteLinear)))


def _depthwise(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c, multiplier = x.shape[1], rng.choice((1, 1, 2))
    kernel = rng.choice(((3, 3), (5, 5), (1, 3), (3, 1), (7, 7)))
    dilation = rng.choice((1, 1, 2))
    padding = tuple(dilation * (k // 2) for k in kernel)
    options: dict[str, Any] = {"padding": padding, "dilation": dilation, "groups": c}
    first = nn.Conv2d(c, multiplier * c, kernel, stride=rng.choice((1, 1, 2)), **options)
    rest = [nn.BatchNorm2d(multiplier * c), activation(rng), nn.Conv2d(multiplier * c, 8, 1)]
    return nn.Sequential(first, *rest, activation(rng))


def _flattened(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c = x.shape[1]
    vertical = nn.Conv2d(8, 8, (3, 1), padding=(1, 0), groups=8)
    horizontal = nn.Conv2d(8, 8, (1, 3), padding=(0, 1), groups=8)
    return nn.Sequential(nn.Conv2d(c, 8, 1), vertical, horizontal, activation(rng))


def _shuffled(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c = x.shape[1]
    if c % 4:
        return nn.Sequential(nn.Conv2d(c, 12, 1), nn.ChannelShuffle(3))
    return rng.choice((ShuffleNetUnit(c, rng.choice((2, 4))), ShuffleNetV2Unit(c)))


def _inception(rng: random.Random, x: torch.Tensor) -> nn.Module:
    branches = [layers(rng, x, keeps=True) for _ in range(rng.randint(1, 3))]
    pools = (
        nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        GlobalContext(x.shape[1], rng.choice(("nearest", "bilinear"))),
        nn.Identity(),
    )
    return Concatenated([*branches, rng.choice(pools)])


def _attention(rng: random.Random, x: torch.Tensor) -> nn.Module:
    return rng.choice((NonLocal(x.shape[1], rng.random() < 0.5), LocalAttention(x.shape[1])))


def _context(rng: random.Random, x: torch.Tensor) -> nn.Module:
    grids = rng.choice(((1, 2, 3), (1, 2, 4), (1, 3)))
    return rng.choice((PyramidPooling(x.shape[1], grids), Exchange(x.shape[1], "nearest")))


def _excite(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c = x.shape[1]
    gates: tuple[Callable[[], nn.Module], ...] = (
        lambda: SqueezeExcite(c),
        lambda: SqueezeExciteLinear(c),
        lambda: Gated(nn.Identity(), nn.Conv2d(c, 1, 7, padding=3)),
        lambda: Gated(
            layers(rng, x, c, keeps=True),
            nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Conv2d(c, c, 1)),
        ),
        # Coordinate attention: along each axis.
        lambda: Applied(
            lambda y: y * y.mean(3, keepdim=True).sigmoid() * y.amax(2, keepdim=True).sigmoid()
        ),
        lambda: Applied(lambda y: y * torch.softmax(y.flatten(2), -1).view_as(y)),
    )
    return rng.choice(gates)()


def _special(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c = x.shape[1]
    kinds: tuple[Callable[[], nn.Module], ...] = (
        lambda: Dynamic(c),
        lambda: Standardized(c, 8, 3, padding=1),
        lambda: Coordinates(x, 8),
        lambda: Warped(c, rng.choice(("zeros", "border", "reflection"))),
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(c, 8, 3, padding=1)),
        lambda: Twice(conv_bn(c, c, 3, nn.ReLU()), norm(rng, x)),
        lambda: Twice(nn.Conv2d(c, c, 1), activation(rng)),
        lambda: nn.Sequential(ChannelNorm(c, True), nn.Conv2d(c, 8, 1)),
        lambda: ConvNeXt(c),
        lambda: nn.Sequential(nn.Dropout2d(0.3), nn.Conv2d(c, 2 * c, 3, padding=1), nn.GLU(1)),
        lambda: Res2(c, 2) if c % 2 == 0 else ConvNeXt(c),
        lambda: nn.Sequential(nn.Conv2d(c, 16, 1), FireBypass(16, 4)),
    )
    return rng.choice(kinds)()


BLOCKS: dict[str, Maker] = {
    "plain": layers,
    "residual": _residual,
    "inverted": _inverted,
    "depthwise": _depthwise,
    "flattened": _flattened,
    "shuffled": _shuffled,
    "inception": _inception,
    "dense": lambda rng, x: DenseBlock(x.shape[1], rng.choice((3, 4)), rng.randint(1, 3)),
    "attention": _attention,
    "context": _context,
    "excite": _excite,
    "special": _special,
    "convolution": convolution,
}

"""Whole small networks by chance: each number is a network, the same every time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from network_modules import conv_bn, randomize
from random_blocks import BLOCKS
from random_heads import HEADS
from random_layers import activation, layers
from random_moves import MOVES
from random_sequences import SEQUENCES
from torch import nn
from torch.nn import functional as F

from tvm_eff.models import Network
from tvm_eff.tensors import TensorSpec

_MOST_VALUES = 60_000
"""Of one map: what would be larger is left out, since a network is to take seconds."""


class Chain(nn.Module):
    """Parts that are called one after the other, on what the inputs are made to."""

    def __init__(self, entry: nn.Module, parts: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.entry, self.parts, self.head = entry, nn.ModuleList(parts), head

    def forward(self, *inputs: torch.Tensor) -> Any:
        x = self.entry(*inputs)
        for part in self.parts:
            x = part(x)
        return self.head(x)


class Pyramid(nn.Module):
    """Down in stages, up again with what the stages kept: a U-Net or a feature pyramid."""

    def __init__(
        self,
        entry: nn.Module,
        stages: Sequence[nn.Module],
        laterals: Sequence[nn.Module],
        heads: Sequence[nn.Module],
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.entry, self.stages = entry, nn.ModuleList(stages)
        self.laterals, self.heads = nn.ModuleList(laterals), nn.ModuleList(heads)
        self.joined, self.mode, self.shared = options["joined"], options["mode"], options["shared"]

    def forward(self, *inputs: torch.Tensor) -> Any:
        x = self.entry(*inputs)
        kept = []
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        low = self.laterals[-1](kept[-1])
        found = [low]
        for lateral, skip in zip(list(self.laterals)[-2::-1], kept[-2::-1], strict=True):
            larger = F.interpolate(low, size=skip.shape[-2:], mode=self.mode)
            beside = lateral(skip)
            low = torch.cat([beside, larger], 1) if self.joined else beside + larger
            found.append(low)
        if self.shared:
            return [self.heads[0](each) for each in found]
        return self.heads[0](found[-1])


class Frames(nn.Module):
    """What a camera gives, made into what a network takes."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, channels: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.register_buffer("mean", torch.rand(channels, 1, 1))
        self.register_buffer("deviation", torch.rand(channels, 1, 1) + 0.2)

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        x = frame.permute(0, 3, 1, 2) if self.last else frame
        return (x / 255 - self.mean) / self.deviation


class Centred(nn.Module):
    """Integers or anything else as floats around zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float() * 2 - 1


class Pair(nn.Module):
    """Two images in one map: added, beside each other, compared, or the one as a mask."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.way == "beside":
            return torch.cat([x, y], dim=1)
        if self.way == "compared":
            return torch.cat([x - y, (x - y).abs(), x * y], 1)
        if self.way == "mask":
            return x.masked_fill(y, 0.0) + y.to(x.dtype)
        return torch.add(x, y, alpha=0.5)


class Conditioned(nn.Module):
    """FiLM: a vector says how a map is scaled and moved."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(features, 2 * channels)
        self.convolution = conv_bn(channels, channels, 3)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, offset = self.dense(condition)[..., None, None].chunk(2, dim=1)
        return F.relu(self.convolution(x) * (1 + scale) + offset)


class Correlated(nn.Module):
    """A tracker's: the second input's features are the weights for the first's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU())

    def forward(self, x: torch.Tensor, template: torch.Tensor) -> torch.Tensor:
        one, other = self.features(x), self.features(template)
        n, c, h, w = one.shape
        found = F.conv2d(
            one.reshape(1, n * c, h, w), other.reshape(n * c, 1, *other.shape[2:]), groups=n * c
        )
        return found.view(n, c, *found.shape[2:]) * 0.1


class Patches(nn.Module):
    """A map as a sequence of patches, with a token of its own and places."""

    def __init__(self, x: torch.Tensor, width: int, patch: int, token: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(x.shape[1], width, patch, stride=patch)
        length = (x.shape[2] // patch) * (x.shape[3] // patch)
        self.token = nn.Parameter(torch.randn(1, 1, width)) if token else None
        self.places = nn.Parameter(torch.randn(1, length + token, width) * 0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.convolution(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            found = torch.cat([self.token.expand(x.shape[0], -1, -1), found], dim=1)
        return found + self.places


class Words(nn.Module):
    """Numbers of words as vectors, with places, perhaps with a mask of what is padding."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(11, width, padding_idx=0)
        self.places = nn.Embedding(length, width)

    def forward(self, ids: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        found = self.table(ids) * 2 + self.places(torch.arange(ids.shape[1]))
        return found if padding is None else found * (~padding).unsqueeze(-1).float()


class Last(nn.Module):
    """A sequence's result: of its first, its last, its mean, its most, or of each."""

    def __init__(self, width: int, way: str) -> None:
        super().__init__()
        self.dense, self.way = nn.Linear(width, 5), way

    def forward(self, x: torch.Tensor) -> Any:
        if self.way == "first":
            return self.dense(x[:, 0])
        if self.way == "last":
            return self.dense(x[:, -1, :]).softmax(-1)
        if self.way == "mean":
            return self.dense(x.mean(1)), x.amax(dim=(1, 2))
        if self.way == "pooled":
            weights = x.mean(-1, keepdim=True).softmax(1)
            return self.dense((weights * x).sum(1))
        scores = self.dense(x)
        return scores, scores.argmax(-1)


def network(number: int) -> Network:
    """Return the network of a number, with random weights, in inference mode."""
    rng = random.Random(number)
    torch.manual_seed(number)
    with torch.no_grad():
        make = rng.choice((_chain, _chain, _chain, _pyramid, _pyramid, _patches, _words))
        module, examples = make(rng)
        randomize(module)
    specs = [TensorSpec(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in examples]
    return Network(f"network_{number}", module, tuple(specs))


def _entry(rng: random.Random) -> tuple[nn.Module, list[torch.Tensor]]:
    """What takes the inputs, and examples of them."""
    n, c = rng.choice((1, 1, 2, 3)), rng.choice((1, 3, 3, 4))
    h, w = (rng.choice((16, 17, 20, 24, 27, 32, 33)) for _ in range(2))
    image = torch.rand(n, c, h, w)
    kinds: tuple[tuple[nn.Module, list[torch.Tensor]], ...] = (
        *((nn.Identity(), [image]),) * 5,
        (Frames(c, True), [torch.zeros(n, h, w, c, dtype=torch.uint8)]),
        (Frames(c, False), [torch.zeros(n, c, h, w, dtype=torch.uint8)]),
        (
            Centred(),
            [torch.zeros(n, c, h, w, dtype=rng.choice((torch.int8, torch.int32, torch.bool)))],
        ),
        (Pair(rng.choice(("beside", "compared", "added"))), [image, torch.rand_like(image)]),
        (Pair("mask"), [image, torch.zeros(n, 1, h, w, dtype=torch.bool)]),
        (Conditioned(6, c), [image, torch.randn(n, 6)]),
        (Correlated(c), [image, torch.rand(n, c, 5, 5)]),
    )
    return rng.choice(kinds)


def _grown(rng: random.Random, x: torch.Tensor, count: int) -> tuple[list[nn.Module], torch.Tensor]:
    """Blocks one after the other, each made for what the one before returns."""
    parts: list[nn.Module] = []
    for _ in range(count):
        makers = BLOCKS if rng.random() < 0.6 else MOVES
        part = makers[rng.choice(sorted(makers))](rng, x).eval()
        try:
            y = part(x)
        except RuntimeError:  # too small for this block, or one that PyTorch does not take
            continue
        fits = y.dim() == 4 and min(y.shape) > 0 and y.shape[1] <= 64 and y.numel() <= _MOST_VALUES
        # What grows or vanishes on its way would be compared with its own rounding.
        if fits and y.isfinite().all() and 1e-3 < float(y.std()) < 1e3:
            parts.append(part)
            x = y
    return parts, x


def _chain(rng: random.Random) -> tuple[nn.Module, list[torch.Tensor]]:
    entry, examples = _entry(rng)
    image = torch.randn_like(entry.eval()(*examples))
    stem = layers(rng, image).eval()
    parts, x = _grown(rng, stem(image), rng.randint(1, 4))
    head = HEADS[rng.choice(sorted(HEADS))](rng, x, (image.shape[2], image.shape[3]))
    return Chain(entry, [stem, *parts], head), examples


def _pyramid(rng: random.Random) -> tuple[nn.Module, list[torch.Tensor]]:
    entry, examples = _entry(rng)
    x = image = torch.randn_like(entry.eval()(*examples))
    stages: list[nn.Module] = []
    laterals: list[nn.Module] = []
    for _ in range(rng.randint(2, 3)):
        down = rng.choice(
            (nn.MaxPool2d(2, ceil_mode=rng.random() < 0.5), nn.AvgPool2d(2), nn.Identity())
        )
        smaller = down(x) if min(x.shape[2:]) >= 6 else x
        parts, y = _grown(rng, smaller, rng.choice((1, 1, 2)))
        stages.append(nn.Sequential(nn.Identity() if smaller is x else down, *parts))
        laterals.append(
            rng.choice((nn.Conv2d(y.shape[1], 8, 1), conv_bn(y.shape[1], 8, 3, nn.ReLU())))
        )
        x = y
    shared = rng.random() < 0.4
    options = {"joined": not shared and rng.random() < 0.5, "shared": shared}
    options["mode"] = rng.choice(("nearest", "bilinear"))  # type: ignore[assignment]
    channels = 8 * len(stages) if options["joined"] else 8
    head: nn.Module = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), activation(rng))
    if not shared and rng.random() < 0.6:
        module = Pyramid(entry, stages, laterals, [nn.Identity()], options).eval()
        found = module(*examples)
        head = HEADS[rng.choice(sorted(HEADS))](rng, found, (image.shape[2], image.shape[3]))
    return Pyramid(entry, stages, laterals, [head], options), examples


def _sequence(rng: random.Random, x: torch.Tensor) -> tuple[list[nn.Module], torch.Tensor]:
    parts: list[nn.Module] = []
    for _ in range(rng.randint(1, 2)):
        part = SEQUENCES[rng.choice(sorted(SEQUENCES))](rng, x).eval()
        parts.append(part)
        x = part(x)
    return parts, x


def _patches(rng: random.Random) -> tuple[nn.Module, list[torch.Tensor]]:
    entry, examples = _entry(rng)
    x = entry.eval()(*examples)
    stem = layers(rng, x, 8, keeps=True).eval() if rng.random() < 0.5 else nn.Identity()
    x = stem(x)
    patches = Patches(x, rng.choice((8, 12, 16)), rng.choice((4, 5, 8)), rng.random() < 0.5)
    parts, x = _sequence(rng, patches(x))
    way = rng.choice(("first", "last", "mean", "pooled", "each"))
    return Chain(entry, [stem, patches, *parts], Last(x.shape[2], way)), examples


def _words(rng: random.Random) -> tuple[nn.Module, list[torch.Tensor]]:
    length, n = rng.choice((6, 9, 16)), rng.choice((1, 2))
    ids = torch.zeros(n, length, dtype=rng.choice((torch.int64, torch.int32)))
    examples = [ids]
    if rng.random() < 0.5:
        examples.append(torch.zeros(n, length, dtype=torch.bool))
    entry = Words(length, rng.choice((8, 12)))
    parts, x = _sequence(rng, entry(*examples))
    way = rng.choice(("first", "last", "mean", "pooled", "each"))
    return Chain(entry, parts, Last(x.shape[2], way)), examples

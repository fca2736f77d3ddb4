"""What networks by chance end with: classes, masks, boxes beside scores, places, sequences."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from network_modules import Applied, conv_bn
from random_layers import activation
from torch import nn
from torch.nn import functional as F

Maker = Callable[[random.Random, torch.Tensor, tuple[int, int]], nn.Module]


class Classes(nn.Module):
    """Scores of classes."""

    def __init__(self, x: torch.Tensor, way: str, hidden: nn.Module, after: nn.Module) -> None:
        super().__init__()
        features = x.shape[1] if way != "flat" else x[0].numel()
        self.way, self.hidden, self.after = way, hidden, after
        self.first, self.second = nn.Linear(features, 16), nn.Linear(16, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "flat":
            x = torch.flatten(x, 1)
        elif self.way == "mean":
            x = x.mean([-2, -1])
        elif self.way == "both":
            x = F.adaptive_avg_pool2d(x, 1).flatten(1) + F.adaptive_max_pool2d(x, (1, 1)).flatten(1)
        else:
            x = x.view(x.size(0), x.size(1), -1).max(dim=2)[0]
        return self.after(self.second(self.hidden(self.first(x))))


class Mask(nn.Module):
    """Scores of each pixel at the size of the input, and the best class."""

    def __init__(self, channels: int, size: tuple[int, int], mode: str) -> None:
        super().__init__()
        self.scores, self.size, self.mode = nn.Conv2d(channels, 5, 1), size, mode

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = F.interpolate(self.scores(x), self.size, mode=self.mode)
        return {"out": scores, "classes": scores.argmax(dim=1), "background": scores[:, 0] > 0}


class Boxes(nn.Module):
    """Boxes in pixels beside scores from 0 to 1, of anchors at each place."""

    anchors: torch.Tensor

    def __init__(self, x: torch.Tensor, size: tuple[int, int], way: str) -> None:
        super().__init__()
        self.boxes = nn.Conv2d(x.shape[1], 8, 3, padding=1)
        self.scores, self.way = nn.Conv2d(x.shape[1], 6, 3, padding=1), way
        height, width = x.shape[2:]
        rows = (torch.arange(height) + 0.5) * size[0] / height
        columns = (torch.arange(width) + 0.5) * size[1] / width
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(-1, 1, 2)
        self.register_buffer("anchors", grid.expand(-1, 2, 2).reshape(-1, 2).float())

    def forward(self, x: torch.Tensor) -> Any:
        n = x.shape[0]
        boxes = self.boxes(x).permute(0, 2, 3, 1).reshape(n, -1, 4)
        scores = self.scores(x).permute(0, 2, 3, 1).contiguous().view(n, -1, 3)
        centres = boxes[..., :2] * 4 + self.anchors
        extents = torch.exp(boxes[..., 2:].clamp(max=4)) * 16
        corners = torch.cat([centres - extents / 2, centres + extents / 2], dim=-1)
        if self.way == "side by side":
            return torch.cat([corners, scores.sigmoid()], dim=2)
        if self.way == "best":
            best, classes = scores.softmax(-1)[..., 1:].max(dim=-1)
            return {"boxes": corners, "scores": best, "labels": classes + 1}
        place = scores[..., 1].argmax(dim=1)
        chosen = corners.gather(1, place[:, None, None].expand(n, 1, 4))
        return chosen.squeeze(1), place, scores


class Landmarks(nn.Module):
    """Places of the highest values of heatmaps, and their expected places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heatmaps = nn.Conv2d(channels, 3, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.heatmaps(x)
        n, k, h, w = maps.shape
        flat = maps.reshape(n, k, h * w)
        value, place = flat.max(dim=-1)
        row, column = torch.div(place, w, rounding_mode="floor"), place % w
        chances = flat.softmax(-1).view(n, k, h, w)
        expected_row = (chances.sum(3) * torch.arange(h)).sum(-1)
        expected_column = (chances.sum(2) * torch.arange(w, dtype=torch.float32)).sum(-1)
        expected = torch.stack([expected_column / w, expected_row / h], -1)
        return torch.stack([row, column], dim=-1), value, expected


class Embedding(nn.Module):
    """A vector of unit length, and how near it is to some that are kept."""

    prototypes: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(channels, 8, bias=False)
        self.register_buffer("prototypes", torch.randn(5, 8))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = F.normalize(self.dense(x.amax((2, 3))), p=2, dim=1)
        near = found @ F.normalize(self.prototypes, dim=1).t()
        away = (found[:, None] - self.prototypes[None]).pow(2).sum(-1).sqrt()
        return found, near, away


class Picture(nn.Module):
    """An image of the input's size, as restoration and depth have it."""

    def __init__(self, channels: int, size: tuple[int, int], last: bool) -> None:
        super().__init__()
        self.convolution, self.size, self.last = nn.Conv2d(channels, 3, 3, padding=1), size, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.interpolate(torch.sigmoid(self.convolution(x)), self.size, mode="bilinear")
        return y.permute(0, 2, 3, 1) * 255 if self.last else y.clamp(0.0, 1.0)


class Several(nn.Module):
    """Two heads on one trunk, their results in a nested structure."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor) -> Any:
        return [self.first(x), {"other": self.second(x), "trunk": x}]


class Lines(nn.Module):
    """A text recognizer's: columns as a sequence through an LSTM."""

    def __init__(self, x: torch.Tensor, both: bool) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(x.shape[1] * x.shape[2], 6, bidirectional=both)
        self.dense = nn.Linear(12 if both else 6, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        columns = x.reshape(n, c * h, w).permute(2, 0, 1)
        found, _ = self.recurrent(columns)
        return self.dense(found).log_softmax(2)


def _classes(rng: random.Random, x: torch.Tensor, size: tuple[int, int]) -> nn.Module:
    hidden: nn.Module = rng.choice((nn.ReLU(), nn.BatchNorm1d(16), nn.LayerNorm(16), nn.Dropout()))
    ends = (nn.Identity(), nn.Softmax(1), nn.LogSoftmax(dim=-1), Applied(lambda y: y.sigmoid()))
    ways = ("flat", "mean", "both", "most")
    way = rng.choice(ways if x[0].numel() < 4000 else ways[1:])
    return Classes(x, way, nn.Sequential(hidden, activation(rng)), rng.choice(ends))


def _convolved(rng: random.Random, x: torch.Tensor, size: tuple[int, int]) -> nn.Module:
    return nn.Sequential(
        *(conv_bn(x.shape[1], 16, 1, nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 7, 1)),
        *(nn.Flatten(), nn.Softmax(dim=1)),
    )


def _several(rng: random.Random, x: torch.Tensor, size: tuple[int, int]) -> nn.Module:
    return Several(_classes(rng, x, size), _convolved(rng, x, size))


HEADS: dict[str, Maker] = {
    "classes": _classes,
    "convolved": _convolved,
    "mask": lambda rng, x, size: Mask(x.shape[1], size, rng.choice(("nearest", "bilinear"))),
    "boxes": lambda rng, x, size: Boxes(x, size, rng.choice(("side by side", "best", "place"))),
    "landmarks": lambda rng, x, size: Landmarks(x.shape[1]),
    "embedding": lambda rng, x, size: Embedding(x.shape[1]),
    "picture": lambda rng, x, size: Picture(x.shape[1], size, rng.random() < 0.5),
    "several": _several,
    "lines": lambda rng, x, size: Lines(x, rng.random() < 0.5),
    "maps": lambda rng, x, size: nn.Identity(),
}

"""Parts of networks by chance that work on sequences: attention, recurrence, mixers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from network_modules import Applied
from random_layers import activation
from torch import nn
from torch.nn import functional as F

Maker = Callable[[random.Random, torch.Tensor], nn.Module]


class RootMeanSquareNorm(nn.Module):
    """As language models have it, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class SwiGLU(nn.Module):
    """A gated dense part."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.both, self.out = nn.Linear(width, 4 * width, bias=False), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, value = self.both(x).chunk(2, dim=-1)
        return self.out(F.silu(gate) * value)


class Attention(nn.Module):
    """Self-attention written in one of several ways, perhaps causal, perhaps with a bias."""

    def __init__(self, x: torch.Tensor, way: str, causal: bool, heads: int) -> None:
        super().__init__()
        width, length = x.shape[2], x.shape[1]
        self.projection, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.way, self.causal, self.heads = way, causal, heads
        self.bias = nn.Parameter(torch.randn(heads, length, length) * 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        parts = self.projection(x).reshape(n, t, 3, self.heads, c // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        if self.way == "function":
            found = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        elif self.way == "mask":
            allowed = torch.ones(t, t, dtype=torch.bool).tril()
            found = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        elif self.way == "rotary":
            found = F.scaled_dot_product_attention(_rotated(query), _rotated(key), value)
        else:
            scores = query @ key.transpose(-2, -1) / math.sqrt(c // self.heads) + self.bias
            if self.causal:
                ahead = torch.triu(torch.ones(t, t, dtype=torch.bool), diagonal=1)
                scores = scores.masked_fill(ahead, float("-inf"))
            found = scores.softmax(dim=-1) @ value
        return self.out(found.transpose(1, 2).reshape(n, t, c))


def _rotated(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions."""
    t, half = x.shape[-2], x.shape[-1] // 2
    angles = torch.arange(t)[:, None] / 100 ** (torch.arange(half) / half)
    one, other = x[..., :half], x[..., half : 2 * half]
    turned = (one * angles.cos() - other * angles.sin(), one * angles.sin() + other * angles.cos())
    return torch.cat(turned, dim=-1)


class Before(nn.Module):
    """A part behind a norm, added to its input; or the norm behind the sum."""

    def __init__(self, norm: nn.Module, part: nn.Module, first: bool) -> None:
        super().__init__()
        self.norm, self.part, self.first = norm, part, first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.part(self.norm(x)) if self.first else self.norm(x + self.part(x))


class Recurrent(nn.Module):
    """PyTorch's recurrent layers, and what they leave behind."""

    def __init__(self, layer: nn.Module, keeps_state: bool) -> None:
        super().__init__()
        self.layer, self.keeps_state = layer, keeps_state

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, state = self.layer(x)
        if not self.keeps_state:
            return found
        last = state[0] if isinstance(state, tuple) else state
        return found + last[-1].repeat(1, found.shape[-1] // last.shape[-1]).unsqueeze(1)


class Windows(nn.Module):
    """A long sequence in windows, each by itself, shifted by half of one."""

    def __init__(self, part: nn.Module, size: int) -> None:
        super().__init__()
        self.part, self.size = part, size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        shifted = torch.roll(x, -(self.size // 2), dims=1)
        padded = F.pad(shifted, (0, 0, 0, -t % self.size))
        found = self.part(padded.view(-1, self.size, c)).view(n, -1, c)[:, :t]
        return torch.roll(found, self.size // 2, dims=1)


def _normed(rng: random.Random, width: int) -> nn.Module:
    return rng.choice(
        (nn.LayerNorm(width), nn.LayerNorm(width, bias=False), RootMeanSquareNorm(width))
    )


def attention(rng: random.Random, x: torch.Tensor) -> nn.Module:
    width = x.shape[2]
    way = rng.choice(("function", "mask", "rotary", "written"))
    heads = rng.choice([h for h in (1, 2, 4) if width % (2 * h) == 0] or [1])
    made: nn.Module = Attention(x, way, rng.random() < 0.5, heads)
    if rng.random() < 0.2:
        inner = torch.zeros(1, 4, width)
        made = Windows(Attention(inner, way, False, heads), 4)
    return Before(_normed(rng, width), made, rng.random() < 0.7)


def feed_forward(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c = x.shape[2]
    plain = nn.Sequential(nn.Linear(c, 2 * c), activation(rng), nn.Dropout(), nn.Linear(2 * c, c))
    return Before(_normed(rng, c), rng.choice((plain, SwiGLU(c))), rng.random() < 0.7)


def encoder(rng: random.Random, x: torch.Tensor) -> nn.Module:
    c = x.shape[2]
    heads = 2 if c % 2 == 0 else 1
    options = {"batch_first": True, "norm_first": rng.random() < 0.5}
    layer = nn.TransformerEncoderLayer(
        c, heads, 2 * c, activation=rng.choice(("relu", "gelu")), **options
    )
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


class MultiHead(nn.Module):
    """PyTorch's own attention, with its weights beside it."""

    def __init__(self, width: int, heads: int, weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.weights = weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, weights = self.attention(x, x, x, need_weights=self.weights)
        return found * weights.amax(-1, keepdim=True) if self.weights else found + x


def recurrence(rng: random.Random, x: torch.Tensor) -> nn.Module:
    kind = rng.choice((nn.LSTM, nn.GRU, nn.LSTM, nn.GRU, nn.RNN))
    both = rng.random() < 0.4
    hidden, depth = rng.choice((5, 8)), rng.choice((1, 1, 2))
    layer = kind(x.shape[2], hidden, depth, batch_first=True, bidirectional=both)
    return Recurrent(layer, rng.random() < 0.4)


def mixer(rng: random.Random, x: torch.Tensor) -> nn.Module:
    _, t, c = x.shape
    over_tokens = nn.Linear(t, t)
    kernel = rng.choice((3, 5))
    line = nn.Conv1d(c, c, kernel, padding=kernel - 1, groups=rng.choice((1, c)))
    normalized = nn.BatchNorm1d(c)
    kinds = (
        (over_tokens, lambda y: y + over_tokens(y.transpose(1, 2)).transpose(1, 2)),
        (line, lambda y: F.relu(line(y.mT)[..., :t]).mT),
        (normalized, lambda y: normalized(y.permute(0, 2, 1)).permute(0, 2, 1)),
        (nn.Identity(), lambda y: y.cumsum(1) / torch.arange(1, t + 1)[:, None]),
        (nn.Identity(), lambda y: torch.cat([y[:, :1], y[:, 1:] - y[:, :-1]], 1)),
        (nn.Identity(), lambda y: y.flip(1) + y.mean(1, keepdim=True)),
        (nn.Identity(), lambda y: torch.cat([y, y.mean(1, True)], dim=1)),
        (nn.Identity(), lambda y: y - y.logsumexp(-1, keepdim=True)),
    )
    owned, function = rng.choice(kinds)
    made = Applied(function)
    made.owned = owned
    return made


SEQUENCES: dict[str, Maker] = {
    "attention": attention,
    "feed forward": feed_forward,
    "encoder": encoder,
    "multi-head": lambda rng, x: MultiHead(
        x.shape[2], 2 if x.shape[2] % 2 == 0 else 1, rng.random() < 0.5
    ),
    "recurrence": recurrence,
    "mixer": mixer,
}

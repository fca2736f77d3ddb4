"""The operators that have a form in integers, by what they do with them."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch
from torch.fx import Node

_ATEN = torch.ops.aten


class Kind(Enum):
    """What an operator does with integers."""

    SUMS = "sums of products, and what becomes integers of 32 bits"
    CLIPS = "limits values"
    MOVES = "moves or chooses values, all of one scale"


_CONVOLUTIONS = frozenset({_ATEN.conv2d.default, _ATEN.conv2d.padding, _ATEN.convolution.default})
_WEIGHTED = _CONVOLUTIONS | {_ATEN.linear.default}
_BINARY = frozenset({_ATEN.add.Tensor, _ATEN.add_.Tensor, _ATEN.mul.Tensor, _ATEN.mul_.Tensor})
_AVERAGES = frozenset(
    {
        _ATEN.adaptive_avg_pool2d.default,
        _ATEN._adaptive_avg_pool2d.default,
        _ATEN.avg_pool2d.default,
        _ATEN.mean.dim,
    }
)
_CLIPS = frozenset(
    {
        _ATEN.relu.default,
        _ATEN.relu_.default,
        _ATEN.relu6.default,
        _ATEN.relu6_.default,
        _ATEN.hardtanh.default,
        _ATEN.hardtanh_.default,
        _ATEN.clamp.default,
        _ATEN.clamp_.default,
        _ATEN.clamp_min.default,
    }
)
_MOVES = frozenset(
    {
        _ATEN.cat.default,
        _ATEN.channel_shuffle.default,
        _ATEN.dropout.default,
        _ATEN.flatten.using_ints,
        _ATEN.max_pool2d.default,
        _ATEN.permute.default,
        _ATEN.reshape.default,
        _ATEN.slice.Tensor,
        _ATEN.squeeze.dim,
        _ATEN.squeeze.dims,
        _ATEN.transpose.int,
        _ATEN.unsqueeze.default,
        _ATEN.view.default,
    }
)
_FREE = frozenset(
    {
        _ATEN.alias.default,
        _ATEN.clone.default,
        _ATEN.contiguous.default,
        _ATEN.detach.default,
        _ATEN.detach_.default,
        _ATEN.lift_fresh_copy.default,
    }
)
_TRANSPOSED = 6
"""The place among a convolution's arguments that says whether it is transposed."""

MOST_TERMS = (2**31 - 2**28) // (2 * 255 * 127)
"""Products of 8 bits whose sum fits in 32 bits, with as much again for zero points, and a bias."""


def kind_of(node: Node) -> Kind | None:
    """Return what an operator does with integers; None if it has no form in them."""
    if node.op != "call_function":
        return None
    if node.target in _WEIGHTED or node.target in _BINARY or node.target in _AVERAGES:
        return Kind.SUMS
    if node.target in _CLIPS:
        return Kind.CLIPS
    return Kind.MOVES if node.target in _MOVES else None


def weight_of(node: Node) -> Node | None:
    """Return the weight of a convolution or a dense layer."""
    weight: Any = node.args[1] if node.target in _WEIGHTED else None
    return weight


def integers_read_by(node: Node) -> list[Node]:
    """Return the activations that an operator can read as integers, none if it cannot."""
    kind = kind_of(node)
    if kind is None:
        return []
    read = _activations(node)
    if not read or not all(map(_is_float32_activation, read)):
        return []
    if node.target in _WEIGHTED:
        return read if _is_weighted_sum(node) else []
    if node.target in _BINARY:
        plain = not node.kwargs and len(read) == 2
        return read if plain else []
    if node.target is _ATEN.mean.dim:
        return read if _is_spatial_mean(node) else []
    return read


def factors_of(node: Node) -> list[int]:
    """Return the places, among its arguments, of what an operator that sums multiplies or adds.

    They are what a layer in float16 reads rounded; its bias stays in float32.
    """
    return [place for place, each in enumerate(node.args[:2]) if isinstance(each, Node)]


def computes(node: Node) -> bool:
    """Whether a node is an operator that computes new values in floating point."""
    if node.op != "call_function" or node.target in _FREE:
        return False
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point


def _activations(node: Node) -> list[Node]:
    if node.target is _ATEN.cat.default:
        given: Any = node.args[0]
    else:
        given = node.args[:2] if node.target in _BINARY else node.args[:1]
    return [each for each in given if isinstance(each, Node)]


def _is_float32_activation(node: Node) -> bool:
    value = node.meta.get("val")
    is_tensor = isinstance(value, torch.Tensor) and value.dtype == torch.float32
    return node.op != "get_attr" and is_tensor


def _is_weighted_sum(node: Node) -> bool:
    weight = weight_of(node)
    if weight is None or weight.op != "get_attr":
        return False
    bias: Any = node.args[2] if len(node.args) > 2 else None
    if isinstance(bias, Node) and bias.op != "get_attr":
        return False
    shape = weight.meta["val"].shape
    if node.target in _CONVOLUTIONS and len(shape) != 4:
        return False
    if node.target is _ATEN.convolution.default and node.args[_TRANSPOSED]:
        return False
    return bool(shape[1:].numel() <= MOST_TERMS)


def _is_spatial_mean(node: Node) -> bool:
    """Whether it is the mean over whole images."""
    source: Any = node.args[0]
    axes: Any = node.args[1]
    rank = source.meta["val"].dim()
    plain = rank == 4 and not node.kwargs and isinstance(axes, list)
    return plain and sorted(axis % rank for axis in axes) == [2, 3]

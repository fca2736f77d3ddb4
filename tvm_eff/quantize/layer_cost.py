"""What a layer costs in a precision, by a simple model: multiply-adds, and bytes that move.

The unit is one multiply-add in float32. One in int8 costs less by the target's rate; a byte that
is read or written costs :data:`OF_A_BYTE`, so that a layer without products is not free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.fx import Node

from tvm_eff.quantize import operators
from tvm_eff.quantize.simulate import Values
from tvm_eff.targets import Target

Precision = Literal["float32", "int8"]
"""What a layer can be computed in."""

OF_A_BYTE = 0.5
"""Of a core with two vector multiply-adds a cycle, in whose second cache a vector lies."""

_FOUR_BYTES = ("avx512vnni", "avxvnni", "dotprod")
"""LLVM's names of the features that have one instruction for it."""

_DEPTHWISE_RATE = 2.0
"""Multiply-adds of 8 bits for one of float32 where none of them can be added to one another."""

_BYTES: dict[Precision, int] = {"float32": 4, "int8": 1}


@dataclass(frozen=True)
class CostModel:
    """Prices of a target.

    Attributes
    ----------
    rate
        How many multiply-adds in int8 cost as much as one in float32.
    """

    rate: float

    def cost(self, node: Node, values: Values, precision: Precision) -> float:
        """Return what a layer costs, in multiply-adds of float32.

        Parameters
        ----------
        node
            The layer.
        values
            The values of a run, for their sizes.
        precision
            What it is computed in.
        """
        weight = operators.weight_of(node)
        sizes = [_size(values[each]) for each in node.all_input_nodes if _is_data(node, each)]
        moved = (sum(sizes) + _size(values[node])) * _BYTES[precision]
        products, rate = 0, 1.0
        if weight is not None:
            terms = _size(values[weight][0])
            products = _size(values[node]) * terms
            rate = min(self.rate, _DEPTHWISE_RATE) if _is_depthwise(values[weight]) else self.rate
        return products / (rate if precision == "int8" else 1.0) + OF_A_BYTE * moved


def cost_model(target: Target) -> CostModel:
    """Return the prices of a target's processor.

    Instructions that add dot products of four bytes do four times the work of one in float32; NEON
    without them twice, in pairs of bytes; and x86 1.2 times, in pairs of 16 bits.
    """
    if any(map(target.has, _FOUR_BYTES)):
        return CostModel(4.0)
    return CostModel(1.2 if target.architecture.name == "x86_64" else 2.0)


def _is_data(node: Node, read: Node) -> bool:
    """Whether what a layer reads is of the precision's size: not a bias."""
    return len(node.args) < 3 or read is not node.args[2]


def _is_depthwise(weight: torch.Tensor) -> bool:
    return weight.dim() == 4 and weight.shape[1] == 1 and weight.shape[2:].numel() > 1


def _size(value: torch.Tensor) -> int:
    return int(value.numel())

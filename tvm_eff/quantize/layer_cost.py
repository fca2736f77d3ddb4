"""What a layer costs in a precision, by a simple model: multiply-adds, and bytes that move.

The unit is one multiply-add in float32. One in int8 or float16 costs less by the target's rates; a
byte that is read or written costs :data:`OF_A_BYTE`, so that a layer without products is not free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch.fx import Node

from tvm_eff.frontend.nodes import arguments_of
from tvm_eff.quantize import operators
from tvm_eff.quantize.precision import Precision
from tvm_eff.quantize.simulate import Values
from tvm_eff.schedules.winograd.integers import parts_of
from tvm_eff.targets import Target

OF_A_BYTE = 0.5
"""Of a core with two vector multiply-adds a cycle, in whose second cache a vector lies."""

_FOUR_BYTES = ("avx512vnni", "avxvnni", "dotprod")
"""LLVM's names of the features that have one instruction for it."""

_DEPTHWISE_RATE = 2.0
"""Multiply-adds of 8 bits for one of float32 where none of them can be added to one another."""

_HALF_RATE = 2.0
"""Multiply-adds in float16 for one in float32: eight lanes for four.

Kernels take 0.48 to 0.57 of float32's instructions (docs/low-precision.md).
"""

_WITH_HALF: dict[Precision, float] = {"float32": 2.25, "float16": 3.0}
_WITHOUT_DOT_PRODUCTS: dict[Precision, float] = {"float32": 2.25, "int8": 2.4}
"""Multiply-adds of a 3x3 convolution by Winograd's algorithm, for one in float32 without it.

On the Cortex-A76 one of 64 to 256 channels takes 0.131 instructions in float32 and 0.096 in
float16, and 0.302 in float32 without it; on the A72 0.131 in float32 and 0.124 in int8
(docs/low-precision.md).
"""

_LEAST_CHANNELS = 16
"""Input and output channels from which on its transforms, which are not counted, weigh little."""

_BYTES: dict[Precision, int] = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class CostModel:
    """Prices of a target.

    Attributes
    ----------
    rate
        How many multiply-adds in int8 cost as much as one in float32.
    half_rate
        How many in float16; None where the processor does not compute in it.
    winograd
        How many of a 3x3 convolution by Winograd's algorithm, in the precisions that have it.
    """

    rate: float
    half_rate: float | None = None
    winograd: Mapping[Precision, float] = field(default_factory=dict)

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
        if weight is None:
            return OF_A_BYTE * moved
        products = _size(values[node]) * _size(values[weight][0])
        return products / self._rate_of(node, values[weight], precision) + OF_A_BYTE * moved

    def _rate_of(self, node: Node, weight: torch.Tensor, precision: Precision) -> float:
        if precision in self.winograd and _is_for_winograd(node, weight, precision):
            return self.winograd[precision]
        if precision == "int8":
            return min(self.rate, _DEPTHWISE_RATE) if _is_depthwise(weight) else self.rate
        if precision == "float32":
            return 1.0
        assert self.half_rate is not None, "it is not offered"
        return self.half_rate


def cost_model(target: Target) -> CostModel:
    """Return the prices of a target's processor.

    Instructions that add dot products of four bytes do four times the work of one in float32; NEON
    without them twice, in pairs of bytes; and x86 1.2 times, in pairs of 16 bits. float16 is
    offered where the processor computes in it. Where float16, or int8 without dot products, has to
    be better than what float32 really takes, Winograd's algorithm counts.
    """
    if target.gpu is None and target.float16:
        half, winograd = _HALF_RATE, _WITH_HALF
    else:
        half, winograd = None, {}
    if any(map(target.has, _FOUR_BYTES)):
        return CostModel(4.0, half, winograd)
    if target.architecture.name == "x86_64":
        return CostModel(1.2, half, winograd)
    if target.architecture.name == "aarch64" and half is None:
        winograd = _WITHOUT_DOT_PRODUCTS
    return CostModel(2.0, half, winograd)


def _is_data(node: Node, read: Node) -> bool:
    """Whether what a layer reads is of the precision's size: not a bias."""
    return len(node.args) < 3 or read is not node.args[2]


def _is_depthwise(weight: torch.Tensor) -> bool:
    return weight.dim() == 4 and weight.shape[1] == 1 and weight.shape[2:].numel() > 1


def _is_for_winograd(node: Node, weight: torch.Tensor, precision: Precision) -> bool:
    """Whether it is a plain 3x3 convolution of some channels, to some."""
    if weight.dim() != 4 or tuple(weight.shape[2:]) != (3, 3):
        return False
    if min(weight.shape[:2]) < _LEAST_CHANNELS:
        return False
    if precision == "int8" and parts_of(int(weight.shape[1])) is None:
        return False
    given = arguments_of(node)
    plain = all(set(given[name]) == {1} for name in ("stride", "dilation"))
    return plain and given["groups"] == 1


def _size(value: torch.Tensor) -> int:
    return int(value.numel())

"""Biases on the grid of the sums that they are added to.

A convolution of integers sums products in steps of the input's scale times the weight's. A bias
that is a whole number of such steps starts the sums, exactly; PT2E leaves it as it was.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from tvm_eff.quantize.operators import weight_of

_MOST = 2**28
"""Steps that a bias may have; one of more is left as it is, for the whole layer."""

_QUANTIZED = torch.ops.quantized_decomposed


def round_biases(module: GraphModule) -> None:
    """Round the bias of each integer convolution and dense layer of a converted network."""
    for node in list(module.graph.nodes):
        weight = weight_of(node) if node.op == "call_function" else None
        bias: Any = node.args[2] if len(node.args) > 2 else None
        if weight is None or not isinstance(bias, Node) or bias.op != "get_attr":
            continue
        step = _step(module, node.args[0], weight)
        rounded = None if step is None else _rounded(_value(module, bias), step)
        if rounded is not None:
            _replace(module, node, rounded)
    module.graph.eliminate_dead_code()
    module.recompile()


def _step(module: GraphModule, source: Any, weight: Node) -> torch.Tensor | None:
    """The input's scale times the weight's, of each channel in double precision."""
    per_tensor = _QUANTIZED.dequantize_per_tensor.default
    if source.target is not per_tensor:
        return None
    if weight.target is not _QUANTIZED.dequantize_per_channel.default:
        return None
    scales: Any = weight.args[1]
    return float(source.args[1]) * _value(module, scales).double()


def _rounded(bias: torch.Tensor, step: torch.Tensor) -> torch.Tensor | None:
    steps = (bias.double() / step).round()
    return (steps * step).float() if bool((steps.abs() <= _MOST).all()) else None


def _value(module: GraphModule, node: Node) -> torch.Tensor:
    found: Any = module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    assert isinstance(found, torch.Tensor)
    return found.detach()


def _replace(module: GraphModule, node: Node, value: torch.Tensor) -> None:
    """Give an operator a bias of its own: another one may share it with other scales."""
    name = f"_rounded_bias_{node.name}"
    module.register_buffer(name, value)
    with module.graph.inserting_before(node):
        own = module.graph.get_attr(name)
    own.meta = dict(node.args[2].meta)  # type: ignore[union-attr]
    node.args = (*node.args[:2], own, *node.args[3:])

"""Which tensors of a traced program are needed when, and how many bytes they take."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

# They may return their input itself, which their schemas do not say.
_IDENTITIES = frozenset({"dropout", "feature_dropout", "contiguous", "to", "_to_copy", "alias"})


def tensors_of(node: torch.fx.Node) -> list[torch.Tensor]:
    """Return the tensors a node stands for, without data."""
    values = pytree.tree_leaves(node.meta.get("val"))
    return [each for each in values if isinstance(each, torch.Tensor)]


def bytes_of(tensor: torch.Tensor) -> int:
    """Return how many bytes a tensor's values take."""
    return tensor.numel() * tensor.element_size()


def aliases(node: torch.fx.Node) -> torch.fx.Node | None:
    """Return the node whose memory this one shares: a view's, or that of one of several outputs."""
    if node.target is operator.getitem:
        source = node.args[0]
        return source if isinstance(source, torch.fx.Node) else None
    if not isinstance(node.target, torch._ops.OpOverload) or not node.all_input_nodes:
        return None
    source = node.all_input_nodes[0]
    if _is_identity(node, source):
        return source
    returned = node.target._schema.returns
    shares = bool(returned) and any(value.alias_info is not None for value in returned)
    return source if shares else None


def peak_bytes(exported: torch.export.ExportedProgram) -> int:
    """Return the most bytes of activations that are live while one operator runs.

    Inputs are live until they were last read, outputs until the end. Weights do not
    count.
    """
    nodes: list[torch.fx.Node] = list(exported.graph.nodes)
    owner = _owners(exported, nodes)
    last_use: dict[torch.fx.Node, int] = {}
    for step, node in enumerate(nodes):
        for each in (node, *node.all_input_nodes):
            if each in owner:
                last_use[owner[each]] = step
    live: dict[torch.fx.Node, int] = {}
    peak = 0
    for step, node in enumerate(nodes):
        if owner.get(node) is node:
            live[node] = sum(bytes_of(tensor) for tensor in tensors_of(node))
        peak = max(peak, sum(live.values()))
        live = {each: size for each, size in live.items() if last_use[each] > step}
    return peak


def _owners(
    exported: torch.export.ExportedProgram, nodes: list[torch.fx.Node]
) -> dict[torch.fx.Node, torch.fx.Node]:
    """For each activation, the node whose memory it lives in."""
    inputs = {
        spec.arg.name
        for spec in exported.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT
    }
    owner: dict[torch.fx.Node, torch.fx.Node] = {}
    node: torch.fx.Node
    for node in nodes:
        if node.op == "placeholder":
            if node.name in inputs:
                owner[node] = node
        elif node.op == "call_function":
            source = aliases(node)
            if source is None:
                owner[node] = node
            elif source in owner:
                owner[node] = owner[source]
    return owner


def _is_identity(node: torch.fx.Node, source: torch.fx.Node) -> bool:
    assert isinstance(node.target, torch._ops.OpOverload)
    if node.target.overloadpacket.__name__ not in _IDENTITIES:
        return False
    mine, other = node.meta.get("val"), source.meta.get("val")
    return _same_layout(mine, other)


def _same_layout(mine: Any, other: Any) -> bool:
    if not isinstance(mine, torch.Tensor) or not isinstance(other, torch.Tensor):
        return False
    same = mine.dtype == other.dtype and mine.shape == other.shape
    return same and mine.stride() == other.stride()

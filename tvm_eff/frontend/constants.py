"""Values of an exported graph that depend on no input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.export.graph_signature import InputKind, InputSpec

_VALUE = "constant"
"""Where a node keeps its value, in its ``meta``."""


def annotate(exported: torch.export.ExportedProgram) -> None:
    """Have :func:`value_of` know the parameters, buffers and constants of a program."""
    nodes = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    for spec in exported.graph_signature.input_specs:
        value = held(exported, spec)
        if value is not None:
            nodes[spec.arg.name].meta[_VALUE] = value.detach()


def held(exported: torch.export.ExportedProgram, spec: InputSpec) -> torch.Tensor | None:
    """Return the parameter, buffer or constant that a placeholder stands for; None for inputs."""
    if spec.kind == InputKind.USER_INPUT or spec.target is None:
        return None
    value = exported.state_dict.get(spec.target)
    # A buffer that is not saved with the weights is among the constants.
    value = exported.constants.get(spec.target) if value is None else value
    return value if isinstance(value, torch.Tensor) else None


def arguments(
    exported: torch.export.ExportedProgram, inputs: Sequence[np.ndarray]
) -> list[torch.Tensor]:
    """Return what the graph's placeholders stand for: weights and constants, then the inputs."""
    given = iter(inputs)
    values = (held(exported, spec) for spec in exported.graph_signature.input_specs)
    return [torch.from_numpy(next(given).copy()) if each is None else each for each in values]


def value_of(node: torch.fx.Node) -> torch.Tensor | None:
    """Return the value of a node, computed by PyTorch; None if it depends on an input."""
    if _VALUE not in node.meta:
        node.meta[_VALUE] = _computed(node)
    return node.meta[_VALUE]


def _computed(node: torch.fx.Node) -> torch.Tensor | None:
    if node.op != "call_function" or not callable(node.target):
        return None
    if not isinstance(node.meta.get("val"), torch.Tensor):
        return None
    values = {each: value_of(each) for each in node.all_input_nodes}
    if any(value is None for value in values.values()):
        return None
    arguments = torch.fx.map_arg((node.args, node.kwargs), values.__getitem__)
    found = node.target(*arguments[0], **arguments[1])
    assert isinstance(found, torch.Tensor)
    return found

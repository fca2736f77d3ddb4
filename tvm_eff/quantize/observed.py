"""A network that PT2E has prepared: which of its layers integers can compute, and what they read.

An observer stands on every value that some operator may read as integers. Given the layers that
are to be computed in integers, some of them are needed: they become a quantization, in the
simulation (:mod:`tvm_eff.quantize.simulate`) as in the program that is converted. The others go.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from tvm_eff.frontend.half import ROUND
from tvm_eff.models import Program, Sample
from tvm_eff.quantize import operators
from tvm_eff.quantize.operators import Kind

_ANNOTATION = "quantization_annotation"

_OF_PLACE = ("nn_module_stack", "stack_trace")
"""What messages say of an operator's place in the model."""


@dataclass(frozen=True)
class Observed:
    """A network whose activations have been seen.

    Attributes
    ----------
    program
        The network in float32.
    prepared
        It with observers, which know the ranges.
    in_float32
        The operators that no integer form covers.
    samples
        The first samples, to compare on.
    source
        What the data is called; None for random inputs.
    count
        How many samples the ranges are of.
    """

    program: Program
    prepared: GraphModule
    in_float32: tuple[Node, ...]
    samples: tuple[Sample, ...]
    source: str | None
    count: int

    @property
    def layers(self) -> tuple[Node, ...]:
        """The operators that integers can compute, in order: sums, and what makes such."""
        return tuple(
            node
            for node in self.prepared.graph.nodes
            if _reads_integers(node) and operators.kind_of(node) is Kind.SUMS
        )


def is_observer(module: torch.nn.Module) -> bool:
    """Whether a module is one of PT2E's observers."""
    return hasattr(module, "calculate_qparams")


def observer_of(graph: GraphModule, node: Node) -> Any:
    """Return the observer that a node calls; None if it is another node."""
    if node.op != "call_module":
        return None
    module: Any = graph.get_submodule(str(node.target))
    return module if is_observer(module) else None


def needed_observers(graph: GraphModule, layers: Set[str]) -> set[Node]:
    """Return the observers whose values are integers if these layers compute in integers.

    What only moves or limits values passes integers on where somebody behind reads them.

    Parameters
    ----------
    graph
        The prepared network.
    layers
        The names of the layers' nodes.
    """
    needed: set[Node] = set()
    for node in reversed(graph.graph.nodes):
        if observer_of(graph, node) is None:
            continue
        if any(user.name in layers or _passes_on(user, needed) for user in node.users):
            needed.add(node)
    return needed


def without_others(graph: GraphModule, layers: Set[str]) -> None:
    """Remove, from a prepared network, the observers that these layers do not need."""
    needed = needed_observers(graph, layers)
    for node in list(graph.graph.nodes):
        if observer_of(graph, node) is not None and node not in needed:
            source: Any = node.args[0]
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
    graph.recompile()


def round_to_half(graph: GraphModule, layers: Set[str]) -> None:
    """Have layers of a prepared network read values that are rounded to float16.

    Parameters
    ----------
    graph
        The network.
    layers
        The names of the layers' nodes that are in float16.
    """
    for node in list(graph.graph.nodes):
        if node.name not in layers:
            continue
        for place in operators.factors_of(node):
            source: Any = node.args[place]
            with graph.graph.inserting_before(node):
                read = graph.graph.call_function(ROUND, (source,))
            read.meta = {name: node.meta[name] for name in _OF_PLACE if name in node.meta}
            node.update_arg(place, read)
    graph.recompile()


def described(node: Node) -> str:
    """Return an operator and its module; not its line, which is a place on this machine."""
    name = getattr(node.target, "__name__", str(node.target))
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    path = modules[-1][0] if modules else ""
    return f"{name} in '{path}'" if path else name


def _passes_on(node: Node, needed: Set[Node]) -> bool:
    if operators.kind_of(node) not in (Kind.MOVES, Kind.CLIPS) or not _reads_integers(node):
        return False
    return any(user in needed for user in node.users)


def _reads_integers(node: Node) -> bool:
    annotation = node.meta.get(_ANNOTATION)
    return annotation is not None and bool(annotation.input_qspec_map)

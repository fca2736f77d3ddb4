"""What of a network is computed in integers: our quantizer for PyTorch's PT2E flow.

Activations are affine in 8 bits, one scale and zero point a tensor; weights are symmetric, one
scale an output channel, within [-127, 127], so that a sum of two products fits in 16 bits.
Convolutions, dense layers, sums, products and averages read integers. What only moves or chooses
values, such as a maximum pooling, passes integers on where somebody behind reads them, in the
scale of what comes in. Anything else stays in float32 and is listed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.observer import HistogramObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

from tvm_eff.quantize import operators
from tvm_eff.quantize.operators import Kind

_ANNOTATION = "quantization_annotation"


@dataclass
class IntegerQuantizer(Quantizer):
    """Annotates a graph with what can be computed in integers.

    Attributes
    ----------
    activations
        What activations are stored as.
    in_float32
        The operators that stay in float32, in the order of the graph, once it is annotated.
    """

    activations: Literal["int8", "uint8"]
    in_float32: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        """Return the graph as it is."""
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        """Write what every operator reads and returns into the metadata of its node."""
        plan = _Plan(model)
        self.in_float32 += [each for each in model.graph.nodes if plan.stays_in_float32(each)]
        spec = self._activation()
        for node in model.graph.nodes:
            if node in plan.integer:
                self._annotate(node, plan, spec)
        for node in model.graph.nodes:
            if plan.is_read_as_integer(node) and node.op != "get_attr":
                found = _annotation(node)
                found.output_qspec = found.output_qspec or spec
        return model

    def validate(self, model: GraphModule) -> None:
        """Accept whatever was annotated."""

    def _annotate(self, node: Node, plan: _Plan, spec: QuantizationSpec) -> None:
        found, read = _annotation(node), plan.integer[node]
        first = read[0]
        shared = SharedQuantizationSpec((first, node))
        kind = operators.kind_of(node)
        for place, each in enumerate(read):
            is_shared = kind is Kind.MOVES and place > 0 and each is not first
            found.input_qspec_map[each] = shared if is_shared else spec
        if kind is Kind.MOVES:
            found.output_qspec = shared
        weight = operators.weight_of(node)
        if weight is not None:
            found.input_qspec_map[weight] = _weight()

    def _activation(self) -> QuantizationSpec:
        limits = torch.iinfo(getattr(torch, self.activations))
        return QuantizationSpec(
            dtype=getattr(torch, self.activations),
            quant_min=limits.min,
            quant_max=limits.max,
            qscheme=torch.per_tensor_affine,
            is_dynamic=False,
            observer_or_fake_quant_ctr=HistogramObserver,
        )


def _weight() -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver,
    )


def _annotation(node: Node) -> QuantizationAnnotation:
    found = node.meta.setdefault(_ANNOTATION, QuantizationAnnotation(_annotated=True))
    assert isinstance(found, QuantizationAnnotation)
    return found


class _Plan:
    """Which operators read integers, and which values they read.

    Attributes
    ----------
    integer
        The values that each such operator reads as integers.
    """

    def __init__(self, model: GraphModule) -> None:
        self.integer: dict[Node, list[Node]] = {}
        self._fused = {
            each for node in model.graph.nodes if (each := _fused_clip(node)) is not None
        }
        for node in reversed(model.graph.nodes):
            read = operators.integers_read_by(node)
            if not read or node in self._fused:
                continue
            passes = operators.kind_of(node) in (Kind.MOVES, Kind.CLIPS)
            if not passes or self.is_read_as_integer(node):
                self.integer[node] = read

    def is_read_as_integer(self, node: Node) -> bool:
        """Whether an operator reads the result of `node` as integers."""
        return any(node in self.integer.get(user, ()) for user in node.users)

    def stays_in_float32(self, node: Node) -> bool:
        """Whether `node` is an operator that computes in float32."""
        if node in self.integer or node in self._fused:
            return False
        return operators.kind_of(node) is not Kind.MOVES and operators.computes(node)


def _fused_clip(node: Node) -> Node | None:
    """The clip that alone uses the result of a sum: it only limits the integers."""
    if operators.kind_of(node) is not Kind.SUMS or len(node.users) != 1:
        return None
    user: Any = next(iter(node.users))
    return user if operators.kind_of(user) is Kind.CLIPS else None

"""What factorized layers save: the paper's formula beside the count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tvm_eff.models.factorization import FactorizedLayer, Formula
from tvm_eff.models.network import Network


@dataclass(frozen=True)
class Saving:
    """What one factorized layer costs, as a fraction of the standard one.

    Attributes
    ----------
    path
        The layer in the network.
    kind
        Its class.
    input_shape
        What it is called on.
    formula
        What the paper says.
    macs
        Counted multiply-accumulates, over the standard layer's.
    weights
        Counted weights of convolutions, without biases and batch norm, over the
        standard layer's.
    parameters
        All counted parameters over the standard layer's.
    """

    path: str
    kind: str
    input_shape: tuple[int, ...]
    formula: Formula
    macs: Fraction
    weights: Fraction
    parameters: Fraction

    @property
    def verdict(self) -> str:
        """Whether formula and counts agree exactly, and if not why."""
        off = [
            what
            for what, counted in (("MACs", self.macs), ("weights", self.weights))
            if counted != self.formula.ratio
        ]
        if off:
            why = ", ".join(self.formula.departures) or "unexplained"
            return f"{' and '.join(off)} differ: {why}"
        if self.parameters != self.formula.ratio:
            return "exact, but for biases and batch norm"
        return "exact"


def savings(module: nn.Module, network: Network) -> Iterator[Saving]:
    """Compare every factorized layer of `module` with its standard one, in order.

    Both are counted on the input that the layer has in the network.
    """
    for path, layer, shape in _calls(module, network):
        standard = layer.standard()
        yield Saving(
            path=path,
            kind=type(layer).__name__,
            input_shape=shape,
            formula=layer.formula(),
            macs=Fraction(_macs(layer, shape), _macs(standard, shape)),
            weights=Fraction(_weights(layer), _weights(standard)),
            parameters=Fraction(_parameters(layer), _parameters(standard)),
        )


def _calls(
    module: nn.Module, network: Network
) -> list[tuple[str, FactorizedLayer, tuple[int, ...]]]:
    found: list[tuple[str, FactorizedLayer, tuple[int, ...]]] = []
    hooks = []
    for path, layer in module.named_modules():
        if isinstance(layer, FactorizedLayer):

            def note(called: nn.Module, inputs: tuple[torch.Tensor, ...], path: str = path) -> None:
                assert isinstance(called, FactorizedLayer)
                found.append((path, called, tuple(inputs[0].shape)))

            hooks.append(layer.register_forward_pre_hook(note))
    if not hooks:
        return []
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            module(*(torch.empty(s.shape, dtype=getattr(torch, s.dtype)) for s in network.inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _macs(layer: nn.Module, shape: tuple[int, ...]) -> int:
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        x = torch.empty(shape)
        with FlopCounterMode(display=False) as counter:
            layer.eval()(x)
    return int(counter.get_total_flops()) // 2


def _weights(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters() if p.ndim > 1)


def _parameters(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())

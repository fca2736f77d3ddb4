"""The savings of factorized layers: the paper's formula and the actual count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm

from tvm_eff.models.factorization import FactorizedLayer, Formula
from tvm_eff.models.macs import counting
from tvm_eff.models.network import Network


@dataclass(frozen=True)
class Saving:
    """The cost of one factorized layer, relative to the standard layer.

    Attributes
    ----------
    path
        The layer's path in the network.
    kind
        Its class.
    input_shape
        The shape of its input.
    formula
        The paper's formula.
    macs
        Counted multiply-accumulates, over the standard layer's.
    weights
        Counted weights of convolutions, without biases and batch norm, over the
        standard layer's.
    parameters
        All counted parameters over the standard layer's.
    left_out
        The parameters of either layer besides the weights: ``biases``, ``batch norm``.
    """

    path: str
    kind: str
    input_shape: tuple[int, ...]
    formula: Formula
    macs: Fraction
    weights: Fraction
    parameters: Fraction
    left_out: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Whether formula and counts agree exactly, and if not, why."""
        off = [
            what
            for what, counted in (("MACs", self.macs), ("weights", self.weights))
            if counted != self.formula.ratio
        ]
        if off:
            why = ", ".join(self.formula.departures) or "unexplained"
            return f"{' and '.join(off)} differ: {why}"
        if self.parameters != self.formula.ratio:
            return f"exact without {' and '.join(self.left_out)}"
        return "exact"


@dataclass(frozen=True)
class _Call:
    path: str
    layer: FactorizedLayer
    x: torch.Tensor


def savings(module: nn.Module, network: Network) -> Iterator[Saving]:
    """Compare every factorized layer of `module` with its standard one, in order.

    Both are counted on the layer's input in the network.
    """
    # Standard layers are created in this mode too: initializing their weights takes long.
    with FakeTensorMode(allow_non_fake_inputs=True):
        for call in _calls(module, network):
            standard = call.layer.standard().eval()
            yield Saving(
                path=call.path,
                kind=type(call.layer).__name__,
                input_shape=tuple(call.x.shape),
                formula=call.layer.formula(),
                macs=Fraction(_macs(call.layer, call.x), _macs(standard, call.x)),
                weights=Fraction(_weights(call.layer), _weights(standard)),
                parameters=Fraction(_parameters(call.layer), _parameters(standard)),
                left_out=tuple(dict.fromkeys((*_left_out(call.layer), *_left_out(standard)))),
            )


def empty_inputs(network: Network) -> list[torch.Tensor]:
    """Return uninitialized input tensors of a network; fake ones in FakeTensorMode."""
    return [torch.empty(each.shape, dtype=getattr(torch, each.dtype)) for each in network.inputs]


def _calls(module: nn.Module, network: Network) -> list[_Call]:
    found: list[_Call] = []
    hooks = []
    for path, layer in module.named_modules():
        if isinstance(layer, FactorizedLayer):

            def note(
                called: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], path: str = path
            ) -> None:
                assert isinstance(called, FactorizedLayer)
                # By position: a standard layer may name its input differently.
                (x,) = (*args, *kwargs.values())
                found.append(_Call(path, called, x))

            hooks.append(layer.register_forward_pre_hook(note, with_kwargs=True))
    if not hooks:
        return []
    try:
        with torch.no_grad():
            module(*empty_inputs(network))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _macs(layer: nn.Module, x: torch.Tensor) -> int:
    with counting() as counter:
        layer(x)
    return counter.macs


def _weights(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters() if p.ndim > 1)


def _left_out(layer: nn.Module) -> Iterator[str]:
    """The kinds of the parameters that are not weights of a convolution."""
    for module in layer.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                continue
            if isinstance(module, _BatchNorm):
                yield "batch norm"
            else:
                yield "biases" if name == "bias" else type(module).__name__


def _parameters(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())

"""Count multiply-accumulates independently of the package, with forward hooks."""

from __future__ import annotations

import torch
from torch import nn


def parameters(model: nn.Module, biases: bool = True) -> int:
    return sum(
        each.numel()
        for name, each in model.named_parameters()
        if biases or not name.endswith("bias")
    )


def macs(model: nn.Module, *shape: int) -> int:
    """Count the MACs of convolutions and dense layers on an input of this shape."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        # A transposed convolution scatters each input, others gather each output.
        elements = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        total += elements.numel() * weight[0].numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    ]
    with torch.no_grad():
        model.eval()(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    return total

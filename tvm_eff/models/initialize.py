"""Random weights under which a deep network's output still depends on its input.

PyTorch's own initialization lets activations shrink layer by layer, until the output
is the last layer's bias and a library with any mistake in it would still seem to agree.
"""

from __future__ import annotations

import torch
from torch import nn


def kaiming(model: nn.Module, nonlinearity: str = "relu") -> None:
    """Draw the weights of convolutions and dense layers as He et al. (arXiv:1502.01852) do.

    Parameters
    ----------
    model
        A network or a layer; biases stay as they are.
    nonlinearity
        What stands between the layers: ``relu``, or ``linear`` for nothing.
    """
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)  # type: ignore[arg-type]


def randomize_batch_norm(model: nn.Module) -> None:
    """Give batch normalization the statistics and factors of a trained network's order.

    With means of zero and variances of one, folding them into weights the wrong way
    round would go unnoticed. The mean of (weight / deviation)^2 is about one, so that
    activations neither grow nor vanish with depth.
    """
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert isinstance(layer.running_mean, torch.Tensor), "it has statistics in inference"
            assert isinstance(layer.running_var, torch.Tensor), "it has statistics in inference"
            nn.init.uniform_(layer.weight, 0.45, 1.4)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)

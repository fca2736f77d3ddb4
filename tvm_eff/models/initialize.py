"""Random initialization with which a deep network's output depends on its input.

With PyTorch's default initialization activations vanish with depth: the output is nearly
the last layer's bias, and validation would not detect a miscompiled library.
"""

from __future__ import annotations

import torch
from torch import nn


def kaiming(model: nn.Module, nonlinearity: str = "relu") -> None:
    """Initialize convolutions and dense layers as He et al. (arXiv:1502.01852).

    Parameters
    ----------
    model
        A network or a layer; biases are not changed.
    nonlinearity
        The nonlinearity between the layers: ``relu``, or ``linear`` for none.
    """
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)  # type: ignore[arg-type]


def randomize_batch_norm(model: nn.Module) -> None:
    """Randomize statistics and weights of batch normalization to a trained network's order.

    With means of zero and variances of one, wrong folding into the weights would go
    unnoticed. The mean of (weight / deviation)^2 is about one, so that activations neither
    explode nor vanish with depth.
    """
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert isinstance(layer.running_mean, torch.Tensor), "it has statistics in inference"
            assert isinstance(layer.running_var, torch.Tensor), "it has statistics in inference"
            nn.init.uniform_(layer.weight, 0.45, 1.4)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)

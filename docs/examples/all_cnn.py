"""All-CNN: a network of convolutions alone (arXiv:1412.6806).

Springenberg, Dosovitskiy, Brox and Riedmiller, 2015. All-CNN-C of tables 1 and 2: pooling is
replaced by convolutions of stride 2, dense layers by 1x1 convolutions. Dropout, which inference
leaves out, is omitted, and so is the softmax, which is part of the loss.
"""

from __future__ import annotations

import torch
from torch import nn

from tvm_eff.models.registry import ModelSpec


class AllCnn(nn.Module):
    """All-CNN-C (table 1, table 2).

    Parameters
    ----------
    classes
        Classes of the last convolution.
    channels
        Channels of the first three convolutions, 96 in the paper; the others have twice as many.
    """

    def __init__(self, classes: int = 10, channels: int = 96) -> None:
        super().__init__()
        wide = 2 * channels
        # Input and output channels, kernel, stride, padding.
        layers = (
            (3, channels, 3, 1, 1),
            (channels, channels, 3, 1, 1),
            (channels, channels, 3, 2, 1),
            (channels, wide, 3, 1, 1),
            (wide, wide, 3, 1, 1),
            (wide, wide, 3, 2, 1),
            (wide, wide, 3, 1, 0),
            (wide, wide, 1, 1, 0),
            (wide, classes, 1, 1, 0),
        )
        made = [nn.Sequential(nn.Conv2d(*layer), nn.ReLU()) for layer in layers]
        self.features = nn.Sequential(*made, nn.AdaptiveAvgPool2d(1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, 3, H, W) to class scores (N, classes)."""
        return torch.flatten(self.features(x), 1)


SPEC = ModelSpec(
    name="all_cnn",
    build=AllCnn,
    input_shape=(1, 3, 32, 32),
    paper="arXiv:1412.6806",
    summary="All-CNN-C, tables 1 and 2",
)
"""Its entry in the registry, ``tvm_eff.models.registry``."""

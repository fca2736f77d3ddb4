"""Small networks of every kind a user may bring, with the shapes of their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from network_families import (
    DenseBlock,
    FireBypass,
    SqueezeExciteLinear,
    UNet,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    shufflenet,
)
from network_modules import (
    Applied,
    Branches,
    ChannelAttention,
    NormalizedInput,
    ParallelBranches,
    PerChannel,
    SharedConvolution,
    SharedOutput,
    conv_bn,
    randomize,
)
from torch import nn
from torch.nn import functional as F

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Example:
    """A network and the shapes of its inputs.

    Attributes
    ----------
    make
        Builds the network, with random weights and statistics.
    shapes
        One shape per input.
    transposes
        Number of rearrangements in its definition, such as channel shuffles, other than
        the network's first or last kernel.
    """

    make: Callable[[], nn.Module]
    shapes: tuple[Shape, ...]
    transposes: int = 0


def sequence(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


def per_channel(*functions: nn.Module) -> Callable[[], nn.Module]:
    """Return a network with each function between convolutions of eight channels."""
    return sequence(nn.Conv2d(3, 8, 3, padding=1), PerChannel(*functions), nn.Conv2d(8, 4, 1))


def image(height: int, width: int | None = None, channels: int = 3, batch: int = 1) -> Shape:
    return (batch, channels, height, width or height)


NETWORKS = {
    "mobilenet_v2_odd_input": Example(mobilenet_v2, (image(97, 131, batch=2),)),
    "mobilenet_v3": Example(mobilenet_v3, (image(32),)),
    "mobilenet_v3_dense_excitation": Example(
        lambda: mobilenet_v3(SqueezeExciteLinear), (image(16, batch=3),)
    ),
    "shufflenet": Example(shufflenet, (image(16, 24, batch=2),), transposes=2),
    "resnet": Example(resnet, (image(33, 47, batch=2),)),
    "densenet": Example(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), DenseBlock(8, 4, 2), nn.AvgPool2d(2)),
        (image(16),),
    ),
    "unet": Example(UNet, (image(16, 24),), transposes=1),
    "fire_bypass": Example(
        sequence(nn.Conv2d(3, 16, 3), FireBypass(16, 4), nn.MaxPool2d(3, 2)), (image(16),)
    ),
    "rectifiers": Example(
        per_channel(nn.ReLU6(), nn.PReLU(8), nn.PReLU(), nn.LeakyReLU(0.1), nn.Hardtanh(-0.5, 0.7)),
        (image(16),),
    ),
    "activations": Example(
        per_channel(
            *(nn.ELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus()),
            *(nn.Hardsigmoid(), nn.Hardswish(), nn.Softsign(), nn.Tanhshrink()),
        ),
        (image(9),),
    ),
    "softmax_of_channels": Example(per_channel(nn.Softmax(1), nn.LogSoftmax(1)), (image(9),)),
    "pooling": Example(
        lambda: Branches(
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.MaxPool2d(3, 2, dilation=2),
            nn.AdaptiveAvgPool2d((5, 4)),
        ),
        (image(17, 13),),
    ),
    "adaptive_pooling_of_equal_parts": Example(
        per_channel(nn.AdaptiveAvgPool2d((4, 3))), (image(16, 12),)
    ),
    "average_pooling": Example(
        lambda: Branches(
            nn.AvgPool2d(3, 2, padding=1, count_include_pad=True),
            nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
            nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=True),
            nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
            nn.AvgPool2d(2, ceil_mode=True),
        ),
        (image(17, 14),),
    ),
    "convolutions": Example(
        sequence(
            conv_bn(3, 8, 3, nn.ReLU(), padding=2, dilation=2),
            conv_bn(8, 8, 3, nn.ReLU(), groups=2),
            nn.Conv2d(8, 8, 1, stride=3),
            nn.Conv2d(8, 8, 11, padding=5, groups=8),
            nn.Conv2d(8, 4, 1),
        ),
        (image(25, 22),),
    ),
    "depthwise_multiplier": Example(
        sequence(nn.Conv2d(3, 8, 1), conv_bn(8, 16, 3, nn.ReLU6(), groups=8), nn.Conv2d(16, 4, 1)),
        (image(15, batch=2),),
    ),
    "flattened_filters": Example(
        sequence(
            nn.Conv2d(3, 16, 1),
            nn.Conv2d(16, 16, (3, 1), padding=(1, 0), groups=16),
            nn.Conv2d(16, 16, (1, 3), padding=(0, 1), groups=16),
            nn.ReLU(),
        ),
        (image(16, 11),),
    ),
    "odd_channels": Example(
        sequence(conv_bn(1, 5, 5, nn.ReLU()), conv_bn(5, 3, (1, 5), nn.ReLU()), nn.Conv2d(3, 1, 3)),
        (image(13, channels=1),),
    ),
    "transposed": Example(
        lambda: Branches(
            nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1),
            nn.ConvTranspose2d(8, 4, 3, stride=3, output_padding=1, bias=False),
            nn.ConvTranspose2d(8, 8, 1, stride=2),
            nn.ConvTranspose2d(8, 6, 5, stride=(2, 1), padding=3),
        ),
        (image(9, 7, batch=2),),
    ),
    "transposed_groups_and_dilation": Example(
        lambda: Branches(
            nn.ConvTranspose2d(8, 16, 4, stride=2, padding=1, groups=4),
            nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1, groups=8),
            nn.ConvTranspose2d(8, 8, 3, stride=2, dilation=2),
        ),
        (image(6),),
    ),
    "transposed_stride_1": Example(
        per_channel(nn.ConvTranspose2d(8, 8, 3, padding=1)), (image(9),)
    ),
    "transposed_batch_norm": Example(
        sequence(
            nn.Conv2d(3, 8, 1),
            nn.ConvTranspose2d(8, 12, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ConvTranspose2d(12, 12, 3, groups=3),
            nn.BatchNorm2d(12),
            nn.ReLU(),
        ),
        (image(6, 7),),
        transposes=1,
    ),
    "pixel_shuffle": Example(
        sequence(nn.Conv2d(3, 12, 3), nn.PixelShuffle(2), nn.Conv2d(3, 4, 3)),
        (image(9),),
        transposes=1,
    ),
    "resizing": Example(
        lambda: Branches(
            nn.Upsample(scale_factor=2),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Upsample((11, 13), mode="bilinear", align_corners=True),
            nn.ZeroPad2d((0, 1, 2, 3)),
            nn.ReflectionPad2d(2),
            Applied(lambda x: x[:, :, 1:-1, 2:]),
        ),
        (image(7, 5),),
    ),
    "split": Example(
        per_channel(
            Applied(lambda x: torch.cat([t * (i + 1) for i, t in enumerate(x.split(3, 1))], 1))
        ),
        (image(7),),
    ),
    "flatten_linear": Example(
        sequence(
            *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout()),
            *(nn.Linear(8 * 3 * 5, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10)),
        ),
        (image(8, 12, batch=2),),
    ),
    "flatten_batch_norm_linear": Example(
        sequence(
            *(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.BatchNorm1d(4 * 3 * 2), nn.ReLU6()),
            nn.Linear(24, 5, bias=False),
        ),
        (image(5, 4, batch=4),),
    ),
    "flattened_output": Example(sequence(nn.Conv2d(3, 4, 3), nn.Flatten()), (image(5, batch=2),)),
    "batch_norms": Example(
        sequence(
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8, affine=False),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.BatchNorm2d(8),
        ),
        (image(9),),
    ),
    "shared_convolution": Example(SharedConvolution, (image(9, channels=8),)),
    "shared_output": Example(SharedOutput, (image(9, channels=8),)),
    "normalized_input": Example(NormalizedInput, (image(16),)),
    "channel_attention": Example(ChannelAttention, (image(9, channels=8),)),
    "two_inputs": Example(
        lambda: Applied(lambda x, y: F.avg_pool2d(x, 3) * torch.sigmoid(y)),
        (image(9), image(3)),
    ),
    "one_dimension": Example(
        sequence(
            *(nn.Conv1d(3, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.AvgPool1d(2)),
            *(nn.ConvTranspose1d(8, 8, 4, stride=2), nn.Conv1d(8, 4, 3)),
        ),
        ((2, 3, 32),),
    ),
    "three_dimensions": Example(
        sequence(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2)),
        ((1, 2, 6, 6, 6),),
    ),
    "normalizations": Example(
        per_channel(
            Applied(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), [8]).permute(0, 3, 1, 2)),
            nn.GroupNorm(2, 8),
        ),
        (image(8),),
    ),
    "local_response_norm": Example(per_channel(nn.LocalResponseNorm(5)), (image(8),), transposes=2),
    "parallel_branches": Example(sequence(nn.Conv2d(3, 8, 1), ParallelBranches(8)), (image(9),)),
    "empty_parts": Example(
        per_channel(Applied(lambda x: torch.cat([2 * each for each in x.split([0, 8, 0], 1)], 1))),
        (image(9),),
    ),
    "dense_only": Example(
        sequence(nn.Linear(16, 33), nn.BatchNorm1d(33), nn.ReLU(), nn.Linear(33, 5), nn.Softmax(1)),
        ((7, 16),),
    ),
}


def made(name: str) -> tuple[nn.Module, list[torch.Tensor]]:
    """Return a network and inputs for it, deterministically."""
    torch.manual_seed(0)
    example = NETWORKS[name]
    model = randomize(example.make())
    return model, [torch.randn(*shape) for shape in example.shapes]

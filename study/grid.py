"""Which layers are compared, at which shapes: every factorized layer with its standard one.

Both layers of a pair take and return channels-last activations, as between the layers of
a network: the library then holds the layer's kernels and no transposes, which would cost
both the same and hide a part of the saving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import nn

from tvm_eff.errors import UsageError, nearest
from tvm_eff.models import FactorizedLayer, Network
from tvm_eff.models.factorized import IntraChannelLayer
from tvm_eff.models.flattened import FlattenedLayer, FlattenedStage
from tvm_eff.models.initialize import randomize_batch_norm
from tvm_eff.models.mobilenet import DepthwiseSeparable
from tvm_eff.models.spatial_bottleneck import SpatialBottleneck
from tvm_eff.models.squeezenet import Fire
from tvm_eff.models.topology import TopologicalLayer
from tvm_eff.models.xception import SeparableConvolution
from tvm_eff.tensors import TensorSpec

_SEED = 0


@dataclass(frozen=True)
class LayerShape:
    """The shape of the standard layer, which its factorized ones share.

    Attributes
    ----------
    inputs, outputs
        Channels, M and N.
    size
        Height and width of the input.
    kernel
        Height and width of the filters.
    stride
        Of the convolution; the padding is such that only it makes the output smaller.
    """

    inputs: int
    outputs: int
    size: int
    kernel: int = 3
    stride: int = 1

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.inputs}-{self.outputs} {self.kernel}x{self.kernel}{stride} @{self.size}"

    @property
    def keeps(self) -> bool:
        """Whether the output is as large as the input and has as many channels."""
        return self.inputs == self.outputs and self.stride == 1


DEFAULT_SHAPES = (
    LayerShape(32, 32, 112),
    LayerShape(64, 64, 56),
    LayerShape(64, 128, 56, stride=2),
    LayerShape(128, 128, 28),
    LayerShape(128, 128, 28, kernel=5),
    LayerShape(256, 256, 14),
    LayerShape(512, 512, 7),
)
"""What the networks of the papers are made of: fewer pixels, more channels."""

QUICK_SHAPES = (LayerShape(64, 64, 28), LayerShape(256, 256, 14))


@dataclass(frozen=True)
class Kind:
    """One kind of factorized layer.

    Attributes
    ----------
    family
        The family of networks it is from.
    name
        What it is called in tables.
    make
        Makes the layer of a shape; None where the papers have no such layer.
    """

    family: str
    name: str
    make: Callable[[LayerShape], FactorizedLayer | None] = field(repr=False)


@dataclass(frozen=True)
class Pair:
    """A factorized layer and the standard one it stands for."""

    kind: Kind
    shape: LayerShape

    def __str__(self) -> str:
        return f"{self.kind.name}, {self.shape}"

    def layers(self) -> tuple[FactorizedLayer, nn.Module]:
        """Return the factorized and the standard layer, always with the same random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            factorized = self.kind.make(self.shape)
            assert factorized is not None, f"there is no {self}"
            standard = factorized.standard()
            for layer in (factorized, standard):
                randomize_batch_norm(layer)
        return factorized.eval(), standard.eval()


class ChannelsLast(nn.Module):
    """A layer of channels-first activations, called on channels-last ones."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to (B, H', W', C')."""
        return self.layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def network(layer: nn.Module, shape: LayerShape, name: str) -> Network:
    """Return a layer as a network of its own, on one channels-last input."""
    spec = TensorSpec((1, shape.size, shape.size, shape.inputs), "float32")
    return Network(name, ChannelsLast(layer).eval(), (spec,))


def pairs(families: Sequence[str], shapes: Sequence[LayerShape]) -> list[Pair]:
    """Return every pair of the families at the shapes, shape by shape.

    Raises
    ------
    UsageError
        A family is unknown, or none has a layer of any of the shapes.
    """
    for family in families:
        if family not in FAMILIES:
            raise UsageError(f"unknown family '{family}'{nearest(family, FAMILIES)}")
    kinds = [kind for kind in KINDS if kind.family in families]
    found = [
        Pair(kind, shape)
        for shape in dict.fromkeys(shapes)
        for kind in kinds
        if kind.make(shape) is not None
    ]
    if not found:
        raise UsageError(
            f"no layer of {', '.join(families)} has the shape {' or '.join(map(str, shapes))}; "
            "all have one with as many channels out as in, a multiple of 8, an even size, 3x3 "
            "and no stride, such as 64,64,28"
        )
    return found


def _fire(shape: LayerShape) -> FactorizedLayer | None:
    # Section 4.2.1 of the paper: an eighth of the expand filters squeeze, half of them are 3x3.
    squeeze, rest = divmod(shape.outputs, 8)
    if rest or shape.kernel != 3 or shape.stride != 1:
        return None
    return Fire(shape.inputs, squeeze, shape.outputs // 2)


def _depthwise_separable(shape: LayerShape) -> FactorizedLayer | None:
    if shape.kernel != 3:
        return None
    return DepthwiseSeparable(shape.inputs, shape.outputs, shape.stride)


def _separable(shape: LayerShape) -> FactorizedLayer | None:
    if shape.kernel != 3 or shape.stride != 1:
        return None
    return SeparableConvolution(shape.inputs, shape.outputs)


def _stage(shape: LayerShape) -> FactorizedLayer | None:
    if shape.kernel % 2 == 0:
        return None
    kernel, stride = (shape.kernel, shape.kernel), (shape.stride, shape.stride)
    half = shape.kernel // 2
    return FlattenedStage(shape.inputs, shape.outputs, kernel, stride, (half, half))


def _flattened(shape: LayerShape) -> FactorizedLayer | None:
    if shape.kernel % 2 == 0 or shape.stride != 1:
        return None
    return FlattenedLayer(shape.inputs, shape.outputs, shape.kernel)


def _intra_channel(shape: LayerShape) -> FactorizedLayer | None:
    if shape.kernel % 2 == 0:
        return None
    return IntraChannelLayer(shape.inputs, shape.outputs, shape.kernel, shape.stride)


def _topological(dimensions: int) -> Callable[[LayerShape], FactorizedLayer | None]:
    def make(shape: LayerShape) -> FactorizedLayer | None:
        grid = channel_grid(shape.outputs, dimensions)
        if not shape.keeps or shape.kernel % 2 == 0 or min(grid) < 2:
            return None
        return TopologicalLayer(grid, tuple(size // 2 for size in grid), shape.kernel)

    return make


def _bottleneck(shape: LayerShape) -> FactorizedLayer | None:
    if shape.stride != 1 or shape.kernel % 2 == 0 or shape.size % 2:
        return None
    return SpatialBottleneck(shape.inputs, shape.outputs, shape.kernel)


def channel_grid(channels: int, dimensions: int) -> tuple[int, ...]:
    """Lay channels on a grid as square as whole numbers allow, the smaller sizes first."""
    sizes: list[int] = []
    for left in range(dimensions, 1, -1):
        rest = channels // prod(sizes)
        sizes.append(max(d for d in range(1, rest + 1) if rest % d == 0 and d**left <= rest))
    return (*sizes, channels // prod(sizes))


KINDS = (
    Kind("squeezenet", "fire module", _fire),
    Kind("mobilenet", "depthwise separable", _depthwise_separable),
    Kind("xception", "separable", _separable),
    Kind("flattened", "flattened stage", _stage),
    Kind("flattened", "flattened layer", _flattened),
    Kind("factorized", "intra-channel", _intra_channel),
    Kind("factorized", "topological 2-D", _topological(2)),
    Kind("factorized", "topological 3-D", _topological(3)),
    Kind("factorized", "spatial bottleneck", _bottleneck),
)

FAMILIES = tuple(dict.fromkeys(kind.family for kind in KINDS))

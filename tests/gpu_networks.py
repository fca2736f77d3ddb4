"""Small networks of every family, built for a GPU with every kernel scheduled."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from network_modules import randomize
from records import most_promising
from torch import nn

from tvm_eff import frontend, passes
from tvm_eff.deploy.library import build_library
from tvm_eff.models.factorized import IntraChannelLayer
from tvm_eff.models.flattened import FlattenedLayer
from tvm_eff.models.mobilenet import DepthwiseSeparable
from tvm_eff.models.squeezenet import Bypass, Fire
from tvm_eff.models.xception import Module
from tvm_eff.passes import RelaxNetwork
from tvm_eff.targets import OpenCLRequirements, Target

IMAGE = (1, 3, 32, 32)
CLASSES = 10


def _network(*features: nn.Module, channels: int) -> nn.Sequential:
    entry = (nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*entry, *features, *pool, nn.Linear(channels, CLASSES))


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "squeezenet": lambda: _network(Fire(16, 8, 16), Bypass(Fire(32, 8, 16)), channels=32),
    "mobilenet": lambda: _network(DepthwiseSeparable(16, 32, 2), channels=32),
    "xception": lambda: _network(Module((16, 32, 32)), channels=32),
    "flattened": lambda: _network(FlattenedLayer(16, 32, 3), nn.ReLU(), channels=32),
    "factorized": lambda: _network(IntraChannelLayer(16, 32), nn.Softmax(1), channels=32),
}


@lru_cache(maxsize=len(FAMILIES))
def imported(family: str) -> tuple[nn.Module, RelaxNetwork]:
    """Return a family's network, in PyTorch and in Relax."""
    torch.manual_seed(0)
    model = randomize(FAMILIES[family]()).eval()
    return model, frontend.import_model(model, [torch.zeros(IMAGE)])


def build(network: RelaxNetwork, target: Target, library: Path) -> OpenCLRequirements | None:
    """Build a lowered network with the most promising schedule of every kernel."""
    return build_library(network, most_promising(network, target), target, library)


def small(family: str, dtype: str, target: Target, library: Path) -> OpenCLRequirements:
    """Build a family's network for a GPU."""
    _, network = imported(family)
    needs = build(passes.lower(network, target, dtype), target, library)
    assert needs is not None, "libraries for GPUs have OpenCL requirements"
    return needs

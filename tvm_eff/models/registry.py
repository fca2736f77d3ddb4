"""Which models there are, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tvm_eff.errors import ModelError, nearest
from tvm_eff.models import squeezenet


@dataclass(frozen=True)
class ModelSpec:
    """A model of the zoo.

    Attributes
    ----------
    name
        Its name on the command line.
    build
        Makes the module, with random weights.
    input_shape
        The shape it is traced with: batch, channels, height, width.
    paper
        Where it comes from.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    paper: str


_IMAGE = (1, 3, 224, 224)
_SQUEEZENET = "arXiv:1602.07360"

MODELS = {
    each.name: each
    for each in (
        ModelSpec("squeezenet", squeezenet.squeezenet_1_0, _IMAGE, _SQUEEZENET),
        ModelSpec("squeezenet1_1", squeezenet.squeezenet_1_1, _IMAGE, _SQUEEZENET),
    )
}


def names() -> list[str]:
    """Return the names of all models."""
    return sorted(MODELS)


def spec(name: str) -> ModelSpec:
    """Return the model called `name`.

    Raises
    ------
    ModelError
        There is none; the message offers the nearest names.
    """
    if name not in MODELS:
        raise ModelError(f"unknown model '{name}'{nearest(name, MODELS)}")
    return MODELS[name]


def create(name: str, seed: int = 0) -> nn.Module:
    """Return a model in inference mode, with weights drawn from `seed`.

    Raises
    ------
    ModelError
        There is no model of that name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec(name).build().eval()

"""Which models there are, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from tvm_eff.errors import ModelError, nearest
from tvm_eff.models import squeezenet
from tvm_eff.models.network import Network
from tvm_eff.numerics import TensorSpec


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
    summary
        What it is, in a few words.
    has_width
        Whether `build` takes a width multiplier, `width`.
    """

    name: str
    build: Callable[..., nn.Module]
    input_shape: tuple[int, int, int, int]
    paper: str
    summary: str
    has_width: bool = False


_IMAGE = (1, 3, 224, 224)
_SQUEEZENET = "arXiv:1602.07360"

MODELS = {
    each.name: each
    for each in (
        ModelSpec(
            "squeezenet", squeezenet.squeezenet_1_0, _IMAGE, _SQUEEZENET, "version 1.0, table 1"
        ),
        ModelSpec(
            "squeezenet1_1",
            squeezenet.squeezenet_1_1,
            _IMAGE,
            _SQUEEZENET,
            "version 1.1, the authors' later release",
        ),
    )
}

# mobilenet_0.5_160: a model's name, a width multiplier, a resolution, as the papers write it.
_VARIANT = re.compile(r"(?P<base>.+?)(?:_(?P<width>\d*\.\d+))?(?:_(?P<resolution>\d{2,}))?")


def names() -> list[str]:
    """Return the names of all models."""
    return sorted(MODELS)


def spec(name: str, width: float | None = None, resolution: int | None = None) -> ModelSpec:
    """Return the model called `name`.

    Parameters
    ----------
    name
        A name of the zoo, or one with width and resolution behind it, such as
        ``mobilenet_0.5_160``.
    width
        The width multiplier, for models that have one.
    resolution
        Height and width of the input.

    Raises
    ------
    ModelError
        There is none; the message offers the nearest names. Or the model has no
        width, or it is said twice.
    """
    found = MODELS.get(name)
    if found is None:
        found, width, resolution = _variant(name, width, resolution)
    if resolution is not None:
        found = _with_resolution(found, resolution)
    if width is not None:
        found = _with_width(found, width)
    return found


def create(name: str, seed: int = 0, **options: Any) -> nn.Module:
    """Return a model in inference mode, with weights drawn from `seed`.

    Parameters
    ----------
    name
        As for :func:`spec`.
    seed
        Where the weights are drawn from; the same seed gives the same weights.
    options
        `width` and `resolution` as for :func:`spec`; anything else goes to the
        model's constructor, such as ``classes=10``.

    Raises
    ------
    ModelError
        There is no model of that name, or it does not take these options.
    """
    chosen = spec(name, options.pop("width", None), options.pop("resolution", None))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return chosen.build(**options).eval()
        except TypeError as error:
            raise ModelError(f"the model '{name}' cannot be made: {error}") from error


def load(
    name: str, seed: int = 0, width: float | None = None, resolution: int | None = None
) -> Network:
    """Return a model of the zoo together with the shape of its input.

    Raises
    ------
    ModelError
        As for :func:`spec`.
    """
    chosen = spec(name, width, resolution)
    module = create(name, seed, width=width, resolution=resolution)
    return Network(chosen.name, module, (TensorSpec(chosen.input_shape, "float32"),))


def _variant(
    name: str, width: float | None, resolution: int | None
) -> tuple[ModelSpec, float | None, int | None]:
    match = _VARIANT.fullmatch(name)
    if match is None or match["base"] not in MODELS:
        raise ModelError(f"unknown model '{name}'{nearest(name, MODELS)}")
    if (match["width"] and width is not None) or (match["resolution"] and resolution is not None):
        raise ModelError(
            f"the model's name '{name}' says its width or resolution, and so does an option; "
            f"drop the option, or name '{match['base']}'"
        )
    return (
        MODELS[match["base"]],
        float(match["width"]) if match["width"] else width,
        int(match["resolution"]) if match["resolution"] else resolution,
    )


def _with_resolution(found: ModelSpec, resolution: int) -> ModelSpec:
    shape = (*found.input_shape[:2], resolution, resolution)
    return replace(found, name=f"{found.name}_{resolution}", input_shape=shape)


def _with_width(found: ModelSpec, width: float) -> ModelSpec:
    if not found.has_width:
        having = ", ".join(sorted(each.name for each in MODELS.values() if each.has_width))
        raise ModelError(f"the model '{found.name}' has no width multiplier; these have: {having}")
    if not 0 < width <= 4:
        raise ModelError(f"a width multiplier of {width:g} is not between 0 and 4")
    base, *rest = found.name.split("_")
    name = "_".join([base, f"{width:g}", *rest])
    return replace(found, name=name, build=partial(found.build, width=width))

"""The registry of the model zoo."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from tvm_eff.errors import ModelError, nearest
from tvm_eff.models import factorized, flattened, mobilenet, squeezenet, xception
from tvm_eff.models.network import Network
from tvm_eff.tensors import TensorSpec


@dataclass(frozen=True)
class ModelSpec:
    """A model of the zoo.

    Attributes
    ----------
    name
        Its name on the command line.
    build
        Builds the module, with random weights.
    input_shape
        The shape that it is traced with: batch, channels, height, width.
    paper
        Its paper's arXiv identifier.
    summary
        A short description.
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
_MOBILENET = "arXiv:1704.04861"
_FLATTENED = "arXiv:1412.5474"
_FACTORIZED = "arXiv:1608.04337"


def _rows(
    paper: str,
    input_shape: tuple[int, int, int, int],
    *models: tuple[str, Callable[..., nn.Module], str],
    has_width: bool = False,
) -> list[ModelSpec]:
    return [
        ModelSpec(name, build, input_shape, paper, summary, has_width)
        for name, build, summary in models
    ]


_SPECS = [
    *_rows(
        _SQUEEZENET,
        _IMAGE,
        ("squeezenet", squeezenet.squeezenet_1_0, "version 1.0, table 1"),
        ("squeezenet1_1", squeezenet.squeezenet_1_1, "version 1.1, the authors' later release"),
        ("squeezenet_bypass", squeezenet.squeezenet_bypass, "simple bypass, figure 2"),
        (
            "squeezenet_complex_bypass",
            squeezenet.squeezenet_complex_bypass,
            "complex bypass, figure 2",
        ),
        (
            "squeezenet_standard",
            squeezenet.squeezenet_standard,
            "1.0 with plain 3x3 convolutions, ours to compare with",
        ),
    ),
    *_rows(
        _MOBILENET,
        _IMAGE,
        ("mobilenet", mobilenet.mobilenet, "version 1, table 1"),
        (
            "mobilenet_standard",
            mobilenet.mobilenet_standard,
            "with full convolutions, table 4's Conv MobileNet",
        ),
        has_width=True,
    ),
    *_rows(
        "arXiv:1610.02357",
        (1, 3, 299, 299),
        ("xception", xception.xception, "figure 5"),
        (
            "xception_standard",
            xception.xception_standard,
            "with full convolutions, ours to compare with",
        ),
    ),
    *_rows(
        _FLATTENED,
        _IMAGE,
        ("flattened", flattened.flattened, "an ImageNet-size network of our own"),
        ("flattened_standard", flattened.flattened_standard, "the same with full 3-D filters"),
    ),
    *_rows(
        _FLATTENED,
        (1, 3, 32, 32),
        ("flattened_cifar", flattened.flattened_cifar, "the paper's network for CIFAR"),
        (
            "flattened_cifar_standard",
            flattened.flattened_cifar_standard,
            "the paper's baseline, full 3-D filters",
        ),
    ),
    *_rows(
        _FACTORIZED,
        _IMAGE,
        ("factorized", factorized.factorized, "single intra-channel convolutions"),
        (
            "factorized_topological",
            factorized.factorized_topological,
            "projections within windows of a 2-D grid of channels",
        ),
        (
            "factorized_topological_3d",
            factorized.factorized_topological_3d,
            "projections within windows of a 3-D grid of channels",
        ),
        (
            "factorized_bottleneck",
            factorized.factorized_bottleneck,
            "spatial bottlenecks in the first three stages",
        ),
        (
            "factorized_standard",
            factorized.factorized_standard,
            "the same with standard convolutions",
        ),
    ),
]

MODELS = {each.name: each for each in _SPECS}

# mobilenet_0.5_160: a model's name, a width multiplier and a resolution, as in the papers.
_VARIANT = re.compile(r"(?P<base>.+?)(?:_(?P<width>\d*\.\d+))?(?:_(?P<resolution>\d{2,}))?")
_MIN_WIDTH, _MAX_WIDTH = 0.01, 4.0


def names() -> list[str]:
    """Return the names of all models."""
    return sorted(MODELS)


def spec(name: str, width: float | None = None, resolution: int | None = None) -> ModelSpec:
    """Return the model called `name`.

    Parameters
    ----------
    name
        A name of the zoo, or one with width and resolution appended, such as
        ``mobilenet_0.5_160``.
    width
        The width multiplier, for models that have one.
    resolution
        Height and width of the input.

    Raises
    ------
    ModelError
        There is no such model (the message suggests the nearest names), it has no width
        multiplier, or width or resolution are given twice.
    """
    found = MODELS.get(name)
    if found is None:
        found, width, resolution = _variant(name, width, resolution)
    if width is not None:
        found = _with_width(found, width)
    if resolution is not None:
        found = _with_resolution(found, resolution)
    return found


def create(name: str, seed: int = 0, **options: Any) -> nn.Module:
    """Return a model in inference mode, with random weights from `seed`.

    Parameters
    ----------
    name
        As for :func:`spec`.
    seed
        Seed of the random weights; the same seed gives the same weights.
    options
        `width` and `resolution` as for :func:`spec`; anything else goes to the
        model's constructor, such as ``classes=10``.

    Raises
    ------
    ModelError
        There is no model of that name, or it does not take these options.
    """
    chosen = spec(name, options.pop("width", None), options.pop("resolution", None))
    known = set(inspect.signature(chosen.build).parameters) - {"width"}
    for option in options:
        if option not in known:
            taken = {*known, "resolution"} | ({"width"} if chosen.has_width else set())
            raise ModelError(
                f"the model '{name}' takes no option '{option}'{nearest(option, taken)}"
            )
    if "classes" in options:
        _require_whole("number of classes", options["classes"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return chosen.build(**options).eval()


def load(
    name: str, seed: int = 0, width: float | None = None, resolution: int | None = None
) -> Network:
    """Return a model of the zoo with its input specification.

    Raises
    ------
    ModelError
        As for :func:`spec`.
    """
    chosen = spec(name, width, resolution)
    module = create(name, seed, width=width, resolution=resolution)
    return Network(chosen.name, module, (TensorSpec(chosen.input_shape, "float32"),))


def outline(name: str, width: float | None = None, resolution: int | None = None) -> Network:
    """Return the network of :func:`load` with uninitialized weights: for counting only.

    Raises
    ------
    ModelError
        As for :func:`spec`.
    """
    with torch.device("meta"):  # initialization takes no time there
        network = load(name, width=width, resolution=resolution)
    assert isinstance(network.module, nn.Module), "the zoo holds no saved programs"
    return replace(network, module=network.module.to_empty(device="cpu"))


def _variant(
    name: str, width: float | None, resolution: int | None
) -> tuple[ModelSpec, float | None, int | None]:
    match = _VARIANT.fullmatch(name)
    if match is None or match["base"] not in MODELS:
        raise ModelError(f"unknown model '{name}'{_hint(name)}")
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


def _hint(name: str) -> str:
    """The syntax of variants if `name` looks like one, otherwise the nearest names."""
    for base in sorted(MODELS, key=len, reverse=True):
        if re.fullmatch(rf"{base}_[\d._x-]+", name):
            form = "_0.5_160" if MODELS[base].has_width else "_160"
            what = "width and resolution are" if MODELS[base].has_width else "a resolution is"
            return f"; {what} written as in '{base}{form}'"
    return nearest(name, MODELS)


def _with_resolution(found: ModelSpec, resolution: int) -> ModelSpec:
    _require_whole("resolution", resolution)
    shape = (*found.input_shape[:2], resolution, resolution)
    name = f"{found.name}_{resolution}" if shape != found.input_shape else found.name
    return replace(found, name=name, input_shape=shape)


def _with_width(found: ModelSpec, width: float) -> ModelSpec:
    if not found.has_width:
        having = ", ".join(sorted(each.name for each in MODELS.values() if each.has_width))
        raise ModelError(f"the model '{found.name}' has no width multiplier; these have: {having}")
    is_number = isinstance(width, (int, float)) and not isinstance(width, bool)
    if not is_number or not _MIN_WIDTH <= width <= _MAX_WIDTH:
        raise ModelError(
            f"a width multiplier of {width!r} is not a number from {_MIN_WIDTH:g} to {_MAX_WIDTH:g}"
        )
    # With repr, the name of a variant parses back to the same width.
    name = f"{found.name}_{float(width)!r}" if width != 1 else found.name
    return replace(found, name=name, build=partial(found.build, width=width))


def _require_whole(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"a {what} of {value!r} is not a whole number of at least 1")

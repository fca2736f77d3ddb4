"""An image's preparation as the first part of a network: a camera's bytes go straight in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import nn

from tvm_eff.errors import NoneType, UsageError, nearest, require_kind
from tvm_eff.models.network import Network
from tvm_eff.tensors import TensorSpec

Layout = Literal["NCHW", "NHWC"]
Dtype = Literal["uint8", "float32"]

_T = TypeVar("_T")
_KEYS = ("mean", "std", "scale", "layout", "dtype")
_EXAMPLE = "mean=0.485,0.456,0.406,std=0.229,0.224,0.225,layout=NHWC,dtype=uint8"


@dataclass(frozen=True)
class Preprocessing:
    """``(image * scale - mean) / std``, of an image in the layout and dtype that it comes in.

    Attributes
    ----------
    mean, std
        For each channel, or one for all, in the units that the model was trained in.
    scale
        What values are multiplied with first: 1/255 for bytes unless it is given, 1 for floats.
    layout
        How the image lies: ``NHWC`` as cameras and files give it, or ``NCHW``.
    dtype
        ``uint8`` or ``float32``.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float | None = None
    layout: Layout = "NHWC"
    dtype: Dtype = "uint8"

    def __post_init__(self) -> None:
        for what, values in (("mean", self.mean), ("std", self.std)):
            require_kind(f"the preprocessing's {what}", values, tuple, list)
            for value in values:
                require_kind(f"a value of the preprocessing's {what}", value, Real)
        require_kind("the preprocessing's scale", self.scale, Real, NoneType)
        numbers = (*self.mean, *self.std, *([] if self.scale is None else [self.scale]))
        if not self.mean or not self.std or not all(map(math.isfinite, numbers)):
            raise UsageError("the mean, std and scale of a preprocessing must be finite numbers")
        if 0 in self.std or self.scale == 0:
            raise UsageError("the std and scale of a preprocessing must not be 0")
        _require_one_of("layout", self.layout, get_args(Layout))
        _require_one_of("dtype", self.dtype, get_args(Dtype))

    @classmethod
    def parse(cls, text: str) -> Preprocessing:
        """Read ``mean=0.5,0.5,0.5,std=0.2,layout=NHWC,dtype=uint8``; each part may be left out.

        Raises
        ------
        UsageError
            It is nothing like that.
        """
        values: dict[str, list[str]] = {}
        key = ""
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if equals:
                key = name.strip()
                _require_one_of("key", key, _KEYS)
                if key in values:
                    raise UsageError(f"'{key}' stands twice in the preprocessing '{text}'")
            if not key:
                raise UsageError(f"'{text}' is no preprocessing; write it as {_EXAMPLE}")
            values.setdefault(key, []).append((value if equals else part).strip())
        found: dict[str, Any] = {
            name: _numbers(name, values[name]) for name in _KEYS[:3] if name in values
        }
        if "scale" in found:
            found["scale"] = _one("scale", found["scale"])
        found |= {name: _one(name, values[name]) for name in _KEYS[3:] if name in values}
        return cls(**found)

    def image_of(self, model: TensorSpec) -> TensorSpec:
        """Return what the library takes where the model takes an image in NCHW and float32.

        Raises
        ------
        UsageError
            It takes none, or the mean or std has another number of channels.
        """
        if len(model.shape) != 4 or model.dtype != "float32":
            extents = " x ".join(map(str, model.shape))
            raise UsageError(
                f"preprocessing is for a model whose first input is an image, N x C x H x W in "
                f"float32; this one takes {extents} {model.dtype}"
            )
        n, c, h, w = model.shape
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, c):
                raise UsageError(
                    f"the preprocessing's {name} has {len(values)} values, and the model's image "
                    f"{c} channels; give one or {c}"
                )
        return TensorSpec((n, h, w, c) if self.layout == "NHWC" else (n, c, h, w), self.dtype)

    def model_of(self, image: TensorSpec) -> TensorSpec:
        """Return what the model takes where the library takes an image."""
        if self.layout == "NCHW" or len(image.shape) != 4:
            return TensorSpec(image.shape, "float32")
        n, h, w, c = image.shape
        return TensorSpec((n, c, h, w), "float32")


class Preprocessed(nn.Module):
    """A module behind the preparation of its first input."""

    factor: torch.Tensor
    offset: torch.Tensor

    def __init__(self, inner: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.inner = inner
        self.permuted = preprocessing.layout == "NHWC"
        mean, std = (torch.tensor(each) for each in (preprocessing.mean, preprocessing.std))
        scale = preprocessing.scale
        if scale is None:
            scale = 1 / 255 if preprocessing.dtype == "uint8" else 1.0
        self.register_buffer("factor", (scale / std).float().view(1, -1, 1, 1))
        self.register_buffer("offset", (-mean / std).float().view(1, -1, 1, 1))
        # Not by train(), which would change the modes of the user's modules as well.
        self.training = inner.training

    def forward(self, image: torch.Tensor, *others: torch.Tensor) -> object:
        """Prepare the image and call the module."""
        x = image.permute(0, 3, 1, 2) if self.permuted else image
        return self.inner(x.float() * self.factor + self.offset, *others)


def preprocessed(network: Network, preprocessing: Preprocessing) -> Network:
    """Return a network that takes images as they come.

    Raises
    ------
    UsageError
        Its first input is no image, or it is a saved program.
    """
    if not isinstance(network.module, nn.Module):
        raise UsageError(
            "preprocessing is for modules; a saved program takes what it was traced with"
        )
    if not network.inputs:
        raise UsageError(f"{network.name} takes no input that could be an image")
    first, *rest = network.inputs
    module = Preprocessed(network.module, preprocessing)
    return replace(network, module=module, inputs=(preprocessing.image_of(first), *rest))


def _numbers(name: str, words: list[str]) -> tuple[float, ...]:
    try:
        return tuple(map(float, words))
    except ValueError as error:
        raise UsageError(
            f"the preprocessing's {name} is '{','.join(words)}'; give numbers, such as 0.5"
        ) from error


def _one(name: str, values: Sequence[_T]) -> _T:
    if len(values) != 1:
        raise UsageError(f"the preprocessing's {name} has {len(values)} values; give one")
    return values[0]


def _require_one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    require_kind(f"the preprocessing's {what}", value, str)
    if value not in allowed:
        raise UsageError(f"the preprocessing's {what} is '{value}'{nearest(value, allowed)}")

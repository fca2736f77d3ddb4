"""Strategies for calls of operators: arguments, dtypes, shapes, and what is in the tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from core_operators import called
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from tvm_eff.tensors import TensorSpec

EXTENTS = (1, 2, 3, 5)
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")
NUMBERS = ("float32", *INTEGERS)
ALL = (*NUMBERS, "bool")
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 255.0, 1e-30, 1e20, math.inf, -math.inf, math.nan)
_FEW = (*SPECIAL[:8],)

Draw = Callable[[st.SearchStrategy[Any]], Any]


def _short(argument: Any) -> Any:
    return argument.tolist() if isinstance(argument, np.ndarray | torch.Tensor) else argument


@dataclass(frozen=True, repr=False)
class Drawn:
    """A call of an operator: where an array stands among the arguments, an input goes."""

    operator: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def __repr__(self) -> str:
        given = pytree.tree_map(_short, (self.arguments, self.keywords))
        return f"{self.operator}{given}"

    @property
    def arrays(self) -> list[np.ndarray]:
        """What it is fed with."""
        leaves = pytree.tree_leaves((self.arguments, self.keywords))
        return [each for each in leaves if isinstance(each, np.ndarray)]

    @property
    def specs(self) -> list[TensorSpec]:
        """The shapes and dtypes of its inputs."""
        return [TensorSpec(each.shape, str(each.dtype)) for each in self.arrays]

    def call(self, tensors: list[Any]) -> Any:
        """Call the operator on tensors in the place of its arrays."""
        return called(self.operator, self.arguments, self.keywords, np.ndarray, tensors)


@dataclass(frozen=True)
class Generator:
    """Draws what calls are made of."""

    draw: Draw

    def one(self, values: Any) -> Any:
        """One of several values."""
        return self.draw(st.sampled_from(list(values)))

    def number(self, least: int, most: int) -> int:
        """An integer."""
        return int(self.draw(st.integers(least, most)))

    def shape(self, least: int = 1, most: int = 4) -> list[int]:
        """A shape of some rank."""
        return [self.one(EXTENTS) for _ in range(self.number(least, most))]

    def axis(self, rank: int) -> int:
        """An axis, which may be counted from the end."""
        return self.number(-rank, rank - 1)

    def array(self, shape: list[int], dtypes: Any = ("float32",), special: bool = True) -> Any:
        """An array with values of all sizes, or of what is seldom met."""
        dtype = np.dtype(self.one(dtypes))
        rng = np.random.default_rng(self.number(0, 1000))
        odd = self.number(0, 2) == 0
        if dtype.kind == "b":
            return rng.integers(0, 2, shape).astype(bool)
        if dtype.kind == "f":
            values = (
                rng.choice(SPECIAL if special else _FEW, shape) if odd else rng.normal(0, 3, shape)
            )
            return np.asarray(values).astype(dtype)
        limits = np.iinfo(dtype)
        least, most = (limits.min, limits.max) if odd and special else (max(limits.min, -9), 9)
        return rng.integers(least, most, shape, dtype, endpoint=True)

    def known(self, shape: list[int]) -> Any:
        """An array without NaN, of which clipping makes a number (see `tvm_eff.load`)."""
        array = self.array(shape, NUMBERS)
        return np.nan_to_num(array, nan=0.5, posinf=np.inf, neginf=-np.inf)

    def smooth(self, shape: list[int]) -> Any:
        """Noise, or a constant."""
        rng = np.random.default_rng(self.number(0, 1000))
        if self.number(0, 3) == 0:
            return np.full(shape, self.one((0, 1, 255)), "float32")
        return rng.normal(0, 3, shape).astype("float32")

    def places(self, shape: list[int], extent: int, negative: bool = False) -> Any:
        """Places along an axis, some of them more than once."""
        rng = np.random.default_rng(self.number(0, 1000))
        least = -extent if negative else 0
        return rng.integers(least, extent, shape).astype("int64")

    def broadcast(self, shape: list[int]) -> list[int]:
        """A shape that broadcasts to another one."""
        return [self.one((1, each)) for each in shape[self.number(0, len(shape) - 1) :]]


CALLS: dict[str, st.SearchStrategy[Drawn]] = {}

Maker = Callable[[Generator], tuple[Any, ...]]


def calls(*names: str) -> Callable[[Maker], Maker]:
    """Register what draws the arguments of operators; keywords are a dictionary at the end."""

    def register(maker: Maker) -> Maker:
        for name in names:
            CALLS[name] = _strategy(name, maker)
        return maker

    return register


def _strategy(name: str, maker: Maker) -> st.SearchStrategy[Drawn]:
    @st.composite
    def drawn(draw: Draw) -> Drawn:
        found = maker(Generator(draw))
        keywords = found[-1] if isinstance(found[-1], dict) else {}
        return Drawn(name, found[:-1] if isinstance(found[-1], dict) else found, keywords)

    return drawn()


def of_tensors(*names: str) -> list[str]:
    """Return the names of the overloads for two tensors."""
    return [f"{name}.Tensor" for name in names]


def of_numbers(*names: str) -> list[str]:
    """Return the names of the overloads for a tensor and a number."""
    return [f"{name}.Scalar" for name in names]


COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


@calls(*of_tensors(*COMPARISONS, "mul"), "maximum.default", "minimum.default")
def _two(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    return g.array(shape, ALL), g.array(g.broadcast(shape), ALL)


@calls(*of_tensors("add", "sub"))
def _scaled(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    x, y = g.array(shape, NUMBERS), g.array(g.broadcast(shape), NUMBERS)
    whole = "float32" not in (str(x.dtype), str(y.dtype))
    return x, y, {"alpha": g.one((1, 3, -2) if whole else (1, 0.25, -2))}


@calls(*of_numbers(*COMPARISONS, "mul", "add", "sub"))
def _with_number(g: Generator) -> tuple[Any, ...]:
    return g.array(g.shape(), NUMBERS), g.one((3, -1, 0.5, 100, 12.5))


@calls("div.Tensor", "atan2.default")
def _ratio(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    return g.array(shape, NUMBERS), g.array(g.broadcast(shape), NUMBERS)


@calls("div.Scalar")
def _ratio_with_number(g: Generator) -> tuple[Any, ...]:
    return g.array(g.shape(), NUMBERS), g.one((3, -2, 0.5, 255))


@calls("div.Scalar_mode")
def _rounded_ratio(g: Generator) -> tuple[Any, ...]:
    x = g.array(g.shape(), ("float32", "int32", "uint8"), special=False)
    return x, g.one((3, 0.75, 7)), {"rounding_mode": g.one(("floor", "trunc", None))}


@calls("div.Tensor_mode")
def _rounded_in_a_mode(g: Generator) -> tuple[Any, ...]:
    return (*_rounded_ratio_of_two(g), {"rounding_mode": g.one(("floor", "trunc", None))})


@calls("remainder.Tensor", "fmod.Tensor", "floor_divide.default")
def _rounded_ratio_of_two(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    dtype = g.one(("float32", "int32", "int16", "uint8"))
    y = g.array(g.broadcast(shape), (dtype,), special=False)
    x = g.array(shape, (dtype,), special=False)
    # PyTorch divides no integer by 0, and a quotient next to a whole number may round either way.
    y = np.where(np.abs(y) < 1, 1, np.floor(y)).astype(y.dtype)
    return np.floor(x).astype(dtype), torch.from_numpy(y)


@calls("remainder.Scalar", "fmod.Scalar", "floor_divide.Scalar")
def _remainder(g: Generator) -> tuple[Any, ...]:
    x = g.array(g.shape(), ("float32", "int32", "int8", "uint8"), special=False)
    return np.floor(x).astype(x.dtype), g.one((3, 7, 2))


@calls("clamp.default")
def _clamp(g: Generator) -> tuple[Any, ...]:
    low, high = g.one(((-1, 1), (None, 0.5), (0.25, None), (2, 1), (0, 100)))
    return g.known(g.shape()), low, high


@calls("clamp.Tensor")
def _clamp_to_tensors(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    dtype = g.one(NUMBERS)
    low = g.array(g.broadcast(shape), (dtype,), special=False)
    high = g.one((None, g.array(shape, (dtype,), special=False)))
    return g.array(shape, (dtype,)), low, high


@calls("clamp_min.default", "clamp_max.default")
def _clamp_to_one(g: Generator) -> tuple[Any, ...]:
    return g.known(g.shape()), g.one((-1, 0.5, 3))


@calls("clamp_min.Tensor", "clamp_max.Tensor")
def _clamp_to_one_tensor(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    return g.array(shape, NUMBERS), g.array(g.broadcast(shape), NUMBERS)


@calls("elu.default")
def _elu(g: Generator) -> tuple[Any, ...]:
    return g.array(g.shape()), g.one((1, 0.3)), g.one((1, 1.05)), g.one((1, 2.0))


_FLOATING = """
    acos acosh asin asinh atan atanh cos cosh erf exp exp2 expm1 log log10 log1p log2 reciprocal
    rsqrt sigmoid sin sinh sqrt tan tanh
"""


@calls(*(f"{name}.default" for name in _FLOATING.split()))
def _floating(g: Generator) -> tuple[Any, ...]:
    return (g.array(g.shape(), ("float32", "float32", "uint8", "int32", "bool")),)


_SHIFTS = ("bitwise_left_shift", "bitwise_right_shift", "__lshift__", "__rshift__")


@calls(*of_tensors(*_SHIFTS))
def _shift(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    dtype = g.one(INTEGERS)
    return g.array(shape, (dtype,)), g.array(g.broadcast(shape), (dtype,), special=False)


@calls(
    "bitwise_left_shift.Tensor_Scalar",
    "bitwise_right_shift.Tensor_Scalar",
    *of_numbers(*_SHIFTS[2:]),
)
def _shift_by_number(g: Generator) -> tuple[Any, ...]:
    return g.array(g.shape(), INTEGERS), g.one((0, 1, 7, 8, 40))


@calls("bitwise_left_shift.Scalar_Tensor", "bitwise_right_shift.Scalar_Tensor")
def _shift_of_number(g: Generator) -> tuple[Any, ...]:
    return g.one((1, -5, 100)), g.array(g.shape(), ("int32", "int64"), special=False)


@calls("pow.Scalar")
def _power_of_number(g: Generator) -> tuple[Any, ...]:
    return g.one((2, 0.5, 3)), g.array(g.shape(), ("float32", "uint8", "int32"), special=False)


@calls("pow.Tensor_Scalar")
def _power_to_number(g: Generator) -> tuple[Any, ...]:
    x = g.array(g.shape(), ("float32", "uint8", "int32"))
    return x, g.one((0, 1, 2, 3, 5, *((-1, 0.5, -1.5) if x.dtype == "float32" else (0.5,))))


@calls("pow.Tensor_Tensor")
def _power(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    y = g.array(g.broadcast(shape), ("float32", "uint8", "int32"), special=False)
    return g.array(shape, ("float32", "uint8", "int32"), special=False), y


@calls("where.self")
def _where(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    x, y = g.array(g.broadcast(shape), ALL), g.array(g.broadcast(shape), ALL)
    return g.array(shape, ("bool",)), x, y


@calls("amax.default", "amin.default")
def _extremes(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    axes = g.one(([], [g.axis(len(shape))], list(range(len(shape)))))
    return g.array(shape, ALL), axes, g.one((True, False))


@calls("max.dim", "min.dim", "argmax.default", "argmin.default")
def _extreme(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    return g.array(shape, NUMBERS), g.axis(len(shape)), g.one((True, False))


@calls("any.default")
def _any(g: Generator) -> tuple[Any, ...]:
    return (g.array(g.shape(), ALL) * g.one((0, 1)),)


@calls("any.dim")
def _any_along(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    return g.array(shape, ALL), g.axis(len(shape)), g.one((True, False))


@calls("any.dims")
def _any_along_some(g: Generator) -> tuple[Any, ...]:
    shape = g.shape(2)
    return g.array(shape, ALL), g.one((None, [0, -1], [1])), g.one((True, False))


@calls("prod.default")
def _product(g: Generator) -> tuple[Any, ...]:
    return (g.array(g.shape(1, 2), ALL, special=False),)


@calls("prod.dim_int")
def _product_along(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    return g.array(shape, ALL, special=False), g.axis(len(shape)), g.one((True, False))


@calls("cumsum.default", "cumprod.default")
def _running(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    return g.array(shape, ALL, special=False), g.axis(len(shape))


@calls("split_with_sizes.default")
def _parts(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    axis = g.axis(len(shape))
    sizes = [g.number(0, 2) for _ in range(g.number(1, 3))]
    shape[axis] = sum(sizes) + 1
    return g.array(shape, ALL), [*sizes, 1], axis


@calls("cat.default")
def _cat(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    axis = g.axis(len(shape))
    others = [list(shape) for _ in range(g.number(0, 2))]
    for each in others:
        each[axis] = g.one(EXTENTS)
    return [g.array(each, ALL) for each in (shape, *others)], axis

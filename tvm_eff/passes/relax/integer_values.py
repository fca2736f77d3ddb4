"""What the values of a quantized network are stored as, while it is rewritten in integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir.expr import GenericConst

from tvm_eff.passes.relax._calls import rebuild_call

INFINITY = float("inf")


@dataclass(frozen=True)
class Quantized:
    """Integers of 8 bits that stand for ``(stored - zero) * scale``."""

    stored: relax.Expr
    scale: float
    zero: int

    @property
    def dtype(self) -> str:
        """The integers' dtype, int8 or uint8."""
        return str(self.stored.ty.dtype)


@dataclass(frozen=True)
class Sums:
    """Exact sums that stand for ``(stored + offset) * scale``, within limits.

    Attributes
    ----------
    stored
        Integers of 32 bits; or float32 for averages of integers.
    scale
        One for each channel, or one: its shape broadcasts.
    offset
        Integers likewise: the bias, and what zero points add.
    least, most
        What a ReLU or another clip limits it to.
    """

    stored: relax.Expr
    scale: np.ndarray
    offset: np.ndarray
    least: float = -INFINITY
    most: float = INFINITY


@dataclass(frozen=True)
class Known:
    """A value that depends on no input."""

    value: np.ndarray


@dataclass(frozen=True)
class Weight:
    """A quantized weight without zero points.

    Attributes
    ----------
    value
        Integers of 8 bits.
    scale
        One for each output channel, in the weight's rank.
    """

    value: np.ndarray
    scale: np.ndarray


State = Quantized | Sums | Known | Weight
"""Of a value in floating point; one without a state is a plain tensor."""


class Values:
    """The values of a network that is being rewritten.

    Parameters
    ----------
    builder
        Emits the new network.
    dot_product
        How many products one instruction adds to a sum.
    """

    def __init__(self, builder: relax.BlockBuilder, dot_product: int = 1) -> None:
        self.builder, self.dot_product = builder, dot_product
        self.parameters: dict[relax.Var, np.ndarray] = {}
        self._states: dict[relax.Var, State] = {}
        self._plain: dict[relax.Var, Callable[[], relax.Expr]] = {}

    def emit(self, value: relax.Expr) -> relax.Var:
        """Emit an expression, normalized."""
        return self.builder.emit(value)

    def define(self, var: relax.Var, state: State | None, plain: Callable[[], relax.Expr]) -> None:
        """Say what a variable is stored as, and how it is made a plain tensor if one is needed."""
        if state is not None:
            self._states[var] = state
        self._plain[var] = plain

    def define_integers(self, var: relax.Var, found: Quantized) -> None:
        """Say which integers a variable is."""
        self._plain[var] = lambda: found.stored

    def state_of(self, expr: relax.Expr) -> State | None:
        """Return what an expression is stored as; None if it is a plain tensor."""
        if isinstance(expr, GenericConst):
            return Known(expr.value.numpy())
        return self._states.get(expr) if isinstance(expr, relax.Var) else None

    def plain(self, expr: relax.Expr) -> relax.Expr:
        """Return an expression with plain tensors in the place of the variables it reads."""
        if isinstance(expr, relax.Var):
            found = self._plain[expr]()
            self._plain[expr] = lambda: found
            return found
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.plain(each) for each in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self.plain(expr.tuple_value), expr.index)
        if isinstance(expr, relax.Call):
            return rebuild_call(expr, [self.plain(each) for each in expr.args])
        return expr

    def parameter(self, value: np.ndarray) -> relax.Var:
        """Return a new parameter of the network; a number is a constant."""
        if value.size == 1:
            return relax.const(value.reshape(()), str(value.dtype))
        kind = relax.TensorType(value.shape, str(value.dtype))
        var = relax.Var(f"integer_{len(self.parameters)}", kind)
        self.parameters[var] = np.ascontiguousarray(value)
        return var

    def in_float32(self, state: State) -> relax.Expr:
        """Return the float32 values that integers stand for."""
        if isinstance(state, Known):
            return self.parameter(state.value)
        if isinstance(state, Weight):
            return self.parameter((state.value * state.scale).astype("float32"))
        sums = self.sums_of(state) if isinstance(state, Quantized) else state
        found = self._scaled(sums, sums.scale)
        if (sums.least, sums.most) == (-INFINITY, INFINITY):
            return found
        return self.emit(relax.op.clip(found, sums.least, sums.most))

    def sums_of(self, found: Quantized) -> Sums:
        """Return integers of 8 bits as sums of one."""
        wide = self.emit(relax.op.astype(found.stored, "int32"))
        return Sums(wide, np.full((), found.scale, "float64"), np.full((), -found.zero, "int64"))

    def quantize(self, state: State | None, expr: relax.Expr, into: Target) -> Quantized:
        """Return values as integers of 8 bits: rounded half to even, limited."""
        if isinstance(state, Quantized):
            if (state.scale, state.zero, state.dtype) == (into.scale, into.zero, into.dtype):
                return state
            state = self.sums_of(state)
        if isinstance(state, Sums):
            scaled = self._scaled(state, state.scale / into.scale)
            least, most = into.stored(state.least), into.stored(state.most)
        else:
            inverse = relax.const(np.float32(1 / into.scale))
            scaled = self.emit(relax.op.multiply(self.plain(expr), inverse))
            least, most = into.limits
        found = self.emit(relax.op.round(scaled))
        if into.zero:
            found = self.emit(relax.op.add(found, relax.const(np.float32(into.zero))))
        limited = self.emit(relax.op.clip(found, least, most))
        stored = self.emit(relax.op.astype(limited, into.dtype))
        return Quantized(stored, into.scale, into.zero)

    def _scaled(self, sums: Sums, factor: np.ndarray) -> relax.Expr:
        """``float(stored + offset) * factor``: the integers are exact, and it is rounded once."""
        found = sums.stored
        dtype = str(found.ty.dtype)
        if sums.offset.any():
            offset = self.parameter(sums.offset.astype(dtype))
            found = self.emit(relax.op.add(found, offset))
        if dtype != "float32":
            found = self.emit(relax.op.astype(found, "float32"))
        factor = factor.astype("float32")
        return self.emit(relax.op.multiply(found, self.parameter(factor)))


@dataclass(frozen=True)
class Target:
    """What values are quantized to."""

    scale: float
    zero: int
    dtype: str

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest integer."""
        found = np.iinfo(self.dtype)
        return int(found.min), int(found.max)

    def stored(self, value: float) -> int:
        """Return the integer that stands for a value."""
        least, most = self.limits
        if not np.isfinite(value):
            return least if value < 0 else most
        scaled = np.float32(value) * np.float32(1 / self.scale)
        return int(np.clip(np.rint(scaled) + self.zero, least, most))


def scalar(state: State | None) -> Any:
    """Return the number of a known scalar, of a single element."""
    assert isinstance(state, Known), "scales and zero points are constants of the program"
    return state.value.reshape(()).item()

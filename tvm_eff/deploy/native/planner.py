"""A network as a plan: kernel calls over one arena, its constants and the caller's tensors.

A network whose main function is a straight line of calls needs no virtual machine to run it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_eff.deploy.native.arena import Lifetime, pack
from tvm_eff.deploy.native.plan import Copy, KernelCall, Place, Plan, PlannedTensor
from tvm_eff.passes.attributes import AT_LOAD
from tvm_eff.tensors import TensorSpec


class NotStraightError(Exception):
    """The network is no straight line of kernel calls; the message says what else it has."""


def plan(mod: tvm.IRModule) -> Plan:
    """Plan a network.

    Parameters
    ----------
    mod
        It, with destinations given to kernels and its weights bound:
        :func:`tvm_eff.passes.pipeline.lower_calls`.

    Raises
    ------
    NotStraightError
        It branches, calls functions of the virtual machine, or has sizes that are not known.
    """
    return _Planner(mod).plan()


@dataclass(frozen=True)
class _Buffer:
    """A piece of memory; several tensors may be views of it."""

    place: Place
    number: int


@dataclass(frozen=True)
class _View:
    buffer: _Buffer
    shape: tuple[int, ...]
    dtype: str


class _Planner:
    def __init__(self, mod: tvm.IRModule) -> None:
        self._mod, self._main = mod, mod["main"]
        self._at_load: list[tuple[str, list[_View]]] = []
        self._made_at_load: set[_Buffer] = set()
        self._views: dict[relax.Var, _View] = {}
        self._constants: list[np.ndarray] = []
        self._numbers: dict[Any, int] = {}
        self._sizes: list[int] = []
        self._calls: list[tuple[str, list[_View]]] = []
        self._tuples: dict[relax.Var, list[Any]] = {}

    def plan(self) -> Plan:
        for number, parameter in enumerate(self._main.params):
            self._views[parameter] = _View(_Buffer("input", number), *_looks(parameter))
        for block in self._main.body.blocks:
            for binding in block.bindings:
                self._bind(binding)
        results = [self._view(each) for each in self._fields(self._main.body.body)]
        replaced, copies = self._placed_outputs(results)
        return self._finished(results, replaced, copies)

    def _bind(self, binding: Any) -> None:
        if not isinstance(binding, relax.VarBinding):
            raise NotStraightError(f"a binding of {type(binding).__name__}")
        variable, value = binding.var, binding.value
        if isinstance(value, relax.Tuple):
            self._tuples[variable] = list(value.fields)
        elif isinstance(value, relax.TupleGetItem):
            self._views[variable] = self._view(self._fields(value.tuple_value)[value.index])
        elif isinstance(value, relax.Call):
            self._call(variable, value)
        else:
            self._alias(variable, value)

    def _alias(self, variable: relax.Var, value: Any) -> None:
        if value in self._tuples:
            self._tuples[variable] = self._tuples[value]
            return
        self._views[variable] = self._view(value)

    def _call(self, variable: relax.Var, call: relax.Call) -> None:
        if isinstance(call.op, tvm.ir.GlobalVar):
            self._call_kernel(call.op, [self._view(each) for each in call.args])
            return
        name = str(getattr(call.op, "name", call.op))
        if name == "relax.builtin.alloc_tensor":
            shape, dtype = _looks(variable)
            self._sizes.append(_bytes(shape, dtype))
            buffer = _Buffer("arena", len(self._sizes) - 1)
            self._views[variable] = _View(buffer, shape, dtype)
        elif name == "relax.reshape":
            shape, dtype = _looks(variable)
            self._views[variable] = _View(self._view(call.args[0]).buffer, shape, dtype)
        else:
            raise NotStraightError(f"a call of {name}")

    def _call_kernel(self, kernel: tvm.ir.GlobalVar, views: list[_View]) -> None:
        name = str(kernel.name_hint)
        if AT_LOAD not in (self._mod[kernel].attrs or {}):
            self._calls.append((name, views))
            return
        self._at_load.append((name, views))
        self._made_at_load.add(views[-1].buffer)

    def _fields(self, value: Any) -> list[Any]:
        if isinstance(value, relax.Tuple):
            return [field for each in value.fields for field in self._fields(each)]
        if value in self._tuples:
            return [field for each in self._tuples[value] for field in self._fields(each)]
        return [value]

    def _view(self, value: Any) -> _View:
        if isinstance(value, relax.Var):
            if value not in self._views:
                raise NotStraightError(f"the variable {value.name}")
            return self._views[value]
        if not hasattr(value, "value"):
            raise NotStraightError(f"an argument of {type(value).__name__}")
        key = value.__hash__()
        if key not in self._numbers:
            self._numbers[key] = len(self._constants)
            self._constants.append(np.ascontiguousarray(value.value.numpy()))
        array = self._constants[self._numbers[key]]
        return _View(_Buffer("constant", self._numbers[key]), array.shape, str(array.dtype))

    def _placed_outputs(self, results: Sequence[_View]) -> tuple[dict[_Buffer, _Buffer], list[int]]:
        """Which buffers are the caller's outputs, and which outputs have to be copied."""
        replaced: dict[_Buffer, _Buffer] = {}
        copies = []
        for number, each in enumerate(results):
            fresh = each.buffer not in replaced and each.buffer not in self._made_at_load
            if each.buffer.place == "arena" and fresh:
                replaced[each.buffer] = _Buffer("output", number)
            else:
                copies.append(number)
        return replaced, copies

    def _finished(
        self, results: Sequence[_View], replaced: dict[_Buffer, _Buffer], copies: list[int]
    ) -> Plan:
        every = [*self._at_load, *self._calls]
        used = [[each.buffer for each in views] for _, views in every]
        used.append([results[number].buffer for number in copies])
        lifetimes = _lifetimes(used, self._sizes, replaced)
        for buffer in self._made_at_load:
            # It stays for all inferences, unless it is but a step to one that does.
            found = lifetimes[buffer]
            if found.last >= len(self._at_load):
                lifetimes[buffer] = replace(found, last=len(used))
        packed = pack(lifetimes.values())
        offsets = dict(zip(lifetimes, packed.offsets, strict=True))
        numbers: dict[PlannedTensor, int] = {}

        def number_of(view: _View) -> int:
            buffer = replaced.get(view.buffer, view.buffer)
            at = offsets[buffer] if buffer.place == "arena" else buffer.number
            tensor = PlannedTensor(buffer.place, at, view.shape, view.dtype)
            return numbers.setdefault(tensor, len(numbers))

        calls = tuple(KernelCall(n, tuple(map(number_of, views))) for n, views in every)
        made = tuple(Copy(number_of(results[number]), number) for number in copies)
        return Plan(
            inputs=tuple(TensorSpec(*_looks(each)) for each in self._main.params),
            outputs=tuple(TensorSpec(each.shape, each.dtype) for each in results),
            tensors=tuple(numbers),
            calls=calls,
            copies=made,
            at_load=len(self._at_load),
            constants=tuple(self._constants),
            arena_bytes=packed.size,
            live_bytes=packed.least,
        )


def _lifetimes(
    used: Sequence[Iterable[_Buffer]], sizes: Sequence[int], replaced: dict[_Buffer, _Buffer]
) -> dict[_Buffer, Lifetime]:
    found: dict[_Buffer, Lifetime] = {}
    for time, buffers in enumerate(used):
        for buffer in buffers:
            if buffer.place == "arena" and buffer not in replaced:
                first = found[buffer].first if buffer in found else time
                found[buffer] = Lifetime(sizes[buffer.number], first, time)
    return found


def _looks(variable: Any) -> tuple[tuple[int, ...], str]:
    kind = variable.ty
    if not isinstance(kind, relax.TensorType) or kind.shape is None:
        raise NotStraightError(f"{variable.name}, which is no tensor of known shape")
    extents = list(kind.shape.values)
    if not all(isinstance(each, tvm.tirx.IntImm) for each in extents):
        raise NotStraightError(f"{variable.name}, whose shape is not known")
    return tuple(int(each) for each in extents), str(kind.dtype)


def _bytes(shape: Sequence[int], dtype: str) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize

"""Interpret an exported program on fake tensors, recording the reads and writes of operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from tvm_eff.errors import ModelError
from tvm_eff.models.macs import Counter, counting
from tvm_eff.models.program import first_line

# In inference they do nothing, although their schemas are mutable.
_DROPOUTS = frozenset({"dropout_", "feature_dropout_", "alpha_dropout_", "feature_alpha_dropout_"})


_DEPENDS_ON_DATA = (DataDependentOutputException, DynamicOutputShapeException)


@dataclass(frozen=True)
class Step:
    """One executed operator.

    Attributes
    ----------
    path
        The enclosing module; empty for the network itself.
    operator
        Its ATen name, such as ``conv2d``.
    reads, writes
        The distinct tensors that it takes, and those that it returns.
    macs
        Multiply-accumulates.
    computes
        Whether it computes anything; views of other tensors do not.
    """

    path: str
    operator: str
    reads: tuple[torch.Tensor, ...] = field(repr=False)
    writes: tuple[torch.Tensor, ...] = field(repr=False)
    macs: int
    computes: bool


@dataclass(frozen=True)
class FakeTensorTrace:
    """The trace of a program on fake tensors, which share storages as real ones would.

    Attributes
    ----------
    inputs, outputs
        The network's inputs and outputs.
    parameters
        Trainable tensors, shared ones once.
    buffers
        Other stored tensors, such as running statistics.
    steps
        The operators, in program order.
    """

    inputs: tuple[torch.Tensor, ...] = field(repr=False)
    outputs: tuple[torch.Tensor, ...] = field(repr=False)
    parameters: tuple[torch.Tensor, ...] = field(repr=False)
    buffers: tuple[torch.Tensor, ...] = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)


def trace_fake_tensors(exported: torch.export.ExportedProgram, name: str) -> FakeTensorTrace:
    """Interpret `exported` on fake tensors.

    Raises
    ------
    ModelError
        Its control flow or shapes depend on the data.
    """
    with FakeTensorMode(), counting() as counter:
        arguments = _arguments(exported)
        interpreter = _Interpreter(exported.graph_module, counter, [], "")
        try:
            outputs = interpreter.run(*(value for _, value in arguments))
        except _DEPENDS_ON_DATA as error:
            raise ModelError(
                f"what {name} costs depends on its data: {interpreter.location} calls "
                f"{first_line(error)}; take it out, or account for the parts around it"
            ) from error

    def given(kind: InputKind) -> tuple[torch.Tensor, ...]:
        return tensors_in([value for own, value in arguments if own is kind])

    return FakeTensorTrace(
        inputs=given(InputKind.USER_INPUT),
        outputs=tensors_in(outputs),
        parameters=given(InputKind.PARAMETER),
        buffers=given(InputKind.BUFFER),
        steps=tuple(interpreter.steps),
    )


def storage_of(tensor: torch.Tensor) -> int:
    """Return the identity of a tensor's storage while the tensor lives; views share it."""
    return int(tensor.untyped_storage()._cdata)


def bytes_of(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor's elements; broadcast ones count once."""
    extents = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(extent for extent, stride in extents if stride or not extent) * tensor.itemsize


def tensors_in(tree: Any) -> tuple[torch.Tensor, ...]:
    """Return the distinct tensors in nested lists, tuples and dictionaries."""
    leaves = [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return tuple({_identity(leaf): leaf for leaf in leaves}.values())


def _identity(tensor: torch.Tensor) -> tuple[Any, ...]:
    location = (storage_of(tensor), tensor.storage_offset())
    return (*location, tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _arguments(exported: torch.export.ExportedProgram) -> list[tuple[InputKind, Any]]:
    """The program's arguments: parameters and constants, then the user's inputs."""
    found: list[tuple[InputKind, Any]] = []
    made: dict[Any, torch.Tensor] = {}
    placeholders = exported.graph.find_nodes(op="placeholder")
    for spec, node in zip(exported.graph_signature.input_specs, placeholders, strict=True):
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            held = exported.state_dict.get(spec.target) if spec.target else None
            # Tied weights have several names.
            key = node.name if held is None else _identity(held)
            if key not in made:
                made[key] = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
            value = made[key]
        found.append((spec.kind, value))
    return found


class _Interpreter(torch.fx.Interpreter):
    """Runs a graph and its subgraphs, and appends a step for each operator."""

    def __init__(
        self, graph: torch.fx.GraphModule, counter: Counter, steps: list[Step], path: str
    ) -> None:
        super().__init__(graph)
        self.counter, self.steps, self.path = counter, steps, path
        self.innermost_path = path
        self.extra_traceback = False  # it would end up in our error messages

    @property
    def location(self) -> str:
        return f"its '{self.innermost_path}'" if self.innermost_path else "its own forward"

    def run_node(self, n: torch.fx.Node) -> Any:
        modules = list((n.meta.get("nn_module_stack") or {}).values())
        self.innermost_path = str(modules[-1][0]) if modules else self.path
        return super().run_node(n)

    def call_function(
        self, target: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if isinstance(target, HigherOrderOperator):
            return self._enter(target, args, kwargs)
        assert callable(target)
        before = self.counter.macs
        result = target(*args, **kwargs)
        writes = tensors_in(result)
        if isinstance(target, OpOverload) and writes:  # assertions write nothing
            reads = tensors_in((args, kwargs))
            self.steps.append(
                Step(
                    path=self.innermost_path,
                    operator=target.overloadpacket.__name__,
                    reads=reads,
                    writes=writes,
                    macs=self.counter.macs - before,
                    computes=_computes(target, args, reads, writes),
                )
            )
        return result

    def _enter(self, target: HigherOrderOperator, args: Sequence[Any], kwargs: Any) -> Any:
        """Run a subgraph, such as one under ``torch.no_grad``."""
        name: str = target.name()  # type: ignore[no-untyped-call]
        if not name.startswith("wrap"):
            raise ModelError(
                f"what the network costs depends on its data: {self.location} has control flow "
                f"({name}); take it out, or account for its branches one by one"
            )

        def entered(value: Any) -> Any:
            if not isinstance(value, torch.fx.GraphModule):
                return value
            inner = _Interpreter(value, self.counter, self.steps, self.innermost_path)
            return inner.run

        return target(*map(entered, args), **kwargs)


def _computes(
    target: OpOverload,
    args: Sequence[Any],
    reads: Sequence[torch.Tensor],
    writes: Sequence[torch.Tensor],
) -> bool:
    if target.overloadpacket.__name__ in _DROPOUTS:
        return bool(args[2])
    if target._schema.is_mutable:
        return True
    taken = {storage_of(tensor) for tensor in reads}
    return any(storage_of(tensor) not in taken for tensor in writes)

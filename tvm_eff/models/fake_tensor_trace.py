"""Run a traced program on tensors without data, and note what each operator reads and writes."""

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

# They change their input in training only; as they write to it, nothing else tells.
_DROPOUTS = frozenset({"dropout_", "feature_dropout_", "alpha_dropout_", "feature_alpha_dropout_"})


_DEPENDS_ON_DATA = (DataDependentOutputException, DynamicOutputShapeException)


@dataclass(frozen=True)
class Step:
    """One operator as it ran.

    Attributes
    ----------
    path
        The module it is in; empty for the network itself.
    operator
        ATen's name of it, such as ``conv2d``.
    reads, writes
        The tensors it takes, each once, and those it returns.
    macs
        Multiply-accumulates.
    computes
        Whether it does any work; a view of another tensor does none.
    """

    path: str
    operator: str
    reads: tuple[torch.Tensor, ...] = field(repr=False)
    writes: tuple[torch.Tensor, ...] = field(repr=False)
    macs: int
    computes: bool


@dataclass(frozen=True)
class Replay:
    """A program as it ran, on tensors without data whose storages are those of real ones.

    Attributes
    ----------
    inputs, outputs
        The network's.
    parameters
        Trainable tensors, shared ones once.
    buffers
        What else the network keeps, such as running statistics.
    steps
        The operators, in order.
    """

    inputs: tuple[torch.Tensor, ...] = field(repr=False)
    outputs: tuple[torch.Tensor, ...] = field(repr=False)
    parameters: tuple[torch.Tensor, ...] = field(repr=False)
    buffers: tuple[torch.Tensor, ...] = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)


def replay(exported: torch.export.ExportedProgram, name: str) -> Replay:
    """Run `exported` without data.

    Raises
    ------
    ModelError
        What runs depends on the data.
    """
    with FakeTensorMode(), counting() as counter:
        arguments = _arguments(exported)
        interpreter = _Interpreter(exported.graph_module, counter, [], "")
        try:
            outputs = interpreter.run(*(value for _, value in arguments))
        except _DEPENDS_ON_DATA as error:
            raise ModelError(
                f"what {name} costs depends on its data: {interpreter.place} calls "
                f"{first_line(error)}; take it out, or account for the parts around it"
            ) from error

    def given(kind: InputKind) -> tuple[torch.Tensor, ...]:
        return tensors_in([value for own, value in arguments if own is kind])

    return Replay(
        inputs=given(InputKind.USER_INPUT),
        outputs=tensors_in(outputs),
        parameters=given(InputKind.PARAMETER),
        buffers=given(InputKind.BUFFER),
        steps=tuple(interpreter.steps),
    )


def storage_of(tensor: torch.Tensor) -> int:
    """Return what identifies a tensor's memory while the tensor lives; views share it."""
    return int(tensor.untyped_storage()._cdata)


def bytes_of(tensor: torch.Tensor) -> int:
    """Return how many bytes a tensor's values take; one that is broadcast counts once."""
    extents = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(extent for extent, stride in extents if stride or not extent) * tensor.itemsize


def tensors_in(tree: Any) -> tuple[torch.Tensor, ...]:
    """Return the distinct tensors in nested lists, tuples and dictionaries."""
    leaves = [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return tuple({_identity(leaf): leaf for leaf in leaves}.values())


def _identity(tensor: torch.Tensor) -> tuple[Any, ...]:
    place = (storage_of(tensor), tensor.storage_offset())
    return (*place, tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _arguments(exported: torch.export.ExportedProgram) -> list[tuple[InputKind, Any]]:
    """What the program is called with: parameters and constants, then the user's inputs."""
    found: list[tuple[InputKind, Any]] = []
    made: dict[Any, torch.Tensor] = {}
    placeholders = exported.graph.find_nodes(op="placeholder")
    for spec, node in zip(exported.graph_signature.input_specs, placeholders, strict=True):
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            held = exported.state_dict.get(spec.target) if spec.target else None
            # Weights may be tied under several names.
            key = node.name if held is None else _identity(held)
            if key not in made:
                made[key] = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
            value = made[key]
        found.append((spec.kind, value))
    return found


class _Interpreter(torch.fx.Interpreter):
    """Runs a graph, and those within it, and appends a step for each operator."""

    def __init__(
        self, graph: torch.fx.GraphModule, counter: Counter, steps: list[Step], path: str
    ) -> None:
        super().__init__(graph)
        self.counter, self.steps, self.path = counter, steps, path
        self.innermost_path = path
        self.extra_traceback = False  # it would become part of our messages

    @property
    def place(self) -> str:
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
        """Run a part of the network that is a graph of its own, such as one without gradients."""
        if not target.name().startswith("wrap"):
            raise ModelError(
                f"what the network costs depends on its data: {self.place} has control flow "
                f"({target.name()}); take it out, or account for its branches one by one"
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

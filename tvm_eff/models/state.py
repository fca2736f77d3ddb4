"""A network that keeps state from call to call, with the state as inputs and outputs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tvm_eff.errors import UsageError
from tvm_eff.models.network import Network
from tvm_eff.models.program import quiet, trace
from tvm_eff.tensors import TensorSpec

PREFIX = "state_"
"""What the names of states begin with."""


class Stateful(nn.Module):
    """A module whose buffers come as its last inputs, and go as outputs.

    It returns what the module returns, and the buffers as they are after it; the module's own
    stay as they were.
    """

    def __init__(self, inner: nn.Module, inputs: Sequence[str], buffers: Sequence[str]) -> None:
        super().__init__()
        self.inner = inner
        # Not by train(), which would change the modes of the user's modules as well.
        self.training = inner.training
        self._buffer_names = tuple(buffers)

        def forward(*tensors: torch.Tensor) -> tuple[object, list[torch.Tensor]]:
            return self._call(*tensors)

        # torch.export names the inputs by the signature.
        names = [*inputs, *map(state_name, buffers)]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in names]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward

    def _call(self, *tensors: torch.Tensor) -> tuple[object, list[torch.Tensor]]:
        first = len(tensors) - len(self._buffer_names)
        kept = [self.inner.get_buffer(name) for name in self._buffer_names]
        try:
            for name, value in zip(self._buffer_names, tensors[first:], strict=True):
                # A copy: the module may write in place, and the caller's tensor stays.
                self._set(name, value.clone())
            result = self.inner(*tensors[:first])
            return result, [self.inner.get_buffer(name) for name in self._buffer_names]
        finally:
            for name, value in zip(self._buffer_names, kept, strict=True):
                self._set(name, value)

    def _set(self, name: str, value: torch.Tensor) -> None:
        path, _, attribute = name.rpartition(".")
        setattr(self.inner.get_submodule(path), attribute, value)


def with_state(network: Network) -> Network:
    """Return a network that takes the buffers it writes as inputs, and returns them.

    Raises
    ------
    UsageError
        It writes none, or it is a saved program that takes more than a list of tensors.
    ModelError
        As for :func:`tvm_eff.models.trace`.
    """
    inner = _module_of(network)
    # Before tracing, which moves those that it writes to the end.
    order = [name for name, _ in inner.named_buffers()]
    program = trace(network)
    with quiet():
        functional = program.exported.run_decompositions({})
    written = {*program.written, *functional.graph_signature.buffers_to_mutate.values()}
    if not written:
        raise UsageError(
            f"{network.name} keeps no state: it writes none of its buffers; leave --state out"
        )
    buffers = [name for name in order if name in written]
    taken = [state_name(name) for name in buffers]
    if len({*program.inputs, *taken}) < len(program.inputs) + len(taken):
        raise UsageError(
            f"{network.name} has an input with the name of a state, one of {', '.join(taken)}; "
            "give it another"
        )
    values = {name: inner.get_buffer(name).detach().clone().numpy() for name in buffers}
    specs = [TensorSpec(value.shape, str(value.dtype)) for value in values.values()]
    return replace(
        network,
        module=Stateful(inner, program.inputs, buffers),
        inputs=(*network.inputs, *specs),
        state={state_name(name): value for name, value in values.items()},
    )


def state_name(buffer: str) -> str:
    """Return what the input and the output of a buffer are called."""
    return PREFIX + buffer.replace(".", "_")


def _module_of(network: Network) -> nn.Module:
    if isinstance(network.module, nn.Module):
        return network.module
    structure = network.module.call_spec.in_spec
    plain: tuple[tuple[int, ...], dict[str, int]] = (tuple(range(len(network.inputs))), {})
    if structure != pytree.tree_structure(plain):
        raise UsageError(
            f"{network.name} takes its tensors by keywords or in lists, which the state cannot "
            "be added to; export it with one argument for each tensor"
        )
    return network.module.module()

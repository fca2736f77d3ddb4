"""The static cost of a network: parameters, multiply-accumulates, bytes, peak memory.

`macs.py` defines which operators' multiply-accumulates (MACs) are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tvm_eff.errors import ModelError
from tvm_eff.models.fake_tensor_trace import (
    FakeTensorTrace,
    bytes_of,
    storage_of,
    trace_fake_tensors,
)
from tvm_eff.models.liveness import activations, peak_bytes
from tvm_eff.models.macs import counting
from tvm_eff.models.network import Network
from tvm_eff.models.program import first_line, location_of, quiet, trace
from tvm_eff.models.saving import Saving, empty_inputs, savings


@dataclass(frozen=True)
class Layer:
    """One operator of a network.

    Attributes
    ----------
    path
        The enclosing module, such as ``features.3.squeeze``; empty for the network itself.
    operator
        Its ATen name, such as ``conv2d``.
    output_shape
        The shape of its (first) output.
    parameters
        Trainable values that it is the first to use.
    macs
        Multiply-accumulates.
    weight_bytes
        Bytes of parameters and other constants that it reads, in full.
    activation_bytes
        Bytes of activations it reads and writes.
    """

    path: str
    operator: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int

    @property
    def arithmetic_intensity(self) -> float:
        """Floating-point operations (2 per MAC) per byte read or written."""
        moved = self.weight_bytes + self.activation_bytes
        return 2 * self.macs / moved if moved else 0.0


@dataclass(frozen=True)
class Cost:
    """The static cost of a network.

    Attributes
    ----------
    name
        The network's name.
    parameters
        Trainable values, including frozen ones; shared ones count once.
    buffers
        Stored values that are not trained, such as running statistics.
    macs
        Multiply-accumulates of one inference.
    weight_bytes
        Bytes of the parameters. Layers read more: running statistics, and shared weights
        once per use.
    activation_bytes
        Bytes of activations that all operators read and write.
    peak_activation_bytes
        Peak bytes of live activations, inputs and outputs included, if operators run one
        by one in program order. Fusion reduces it; workspace of operators is not included.
    layers
        The operators, in program order.
    factorized
        The savings of factorized layers, in order; empty for a saved program.
    """

    name: str
    parameters: int
    buffers: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    peak_activation_bytes: int
    layers: tuple[Layer, ...] = field(repr=False)
    factorized: tuple[Saving, ...] = field(repr=False)

    @property
    def weight_bytes_read(self) -> int:
        """Bytes of parameters and other constants that all operators read."""
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def arithmetic_intensity(self) -> float:
        """Floating-point operations (2 per MAC) per byte read or written."""
        moved = self.weight_bytes_read + self.activation_bytes
        return 2 * self.macs / moved if moved else 0.0


def account(network: Network) -> Cost:
    """Account for every operator of a network, without running it on data.

    It is traced with ``torch.export``, and the program interpreted on fake tensors:
    functional calls count like modules. Shared weights count once.

    Raises
    ------
    ModelError
        The network rejects its inputs, cannot be traced, or has a cost that depends on
        the data.
    """
    program = trace(network)
    module = network.module
    with quiet():
        traced = trace_fake_tensors(program.exported, network.name)
        saved = tuple(savings(module, network)) if isinstance(module, nn.Module) else ()
    layers = tuple(_layers(traced))
    return Cost(
        name=network.name,
        parameters=_values(traced.parameters),
        buffers=_values(traced.buffers),
        macs=sum(step.macs for step in traced.steps),
        weight_bytes=sum(map(bytes_of, traced.parameters)),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        peak_activation_bytes=peak_bytes(traced),
        layers=layers,
        factorized=saved,
    )


def count(network: Network) -> tuple[int, int]:
    """Return parameters and MACs only, for a module in a fraction of the time.

    Raises
    ------
    ModelError
        As for :func:`account`.
    """
    module = network.module
    if not isinstance(module, nn.Module):
        traced = trace_fake_tensors(module, network.name)
        return _values(traced.parameters), sum(step.macs for step in traced.steps)
    with FakeTensorMode(allow_non_fake_inputs=True), counting() as counter:
        try:
            module(*empty_inputs(network))
        except Exception as error:  # whatever the user's code raises
            raise ModelError(
                f"{network.name} cannot be counted: {first_line(error)}{location_of(error)}"
            ) from error
    return _values(list(module.parameters())), counter.macs


def _values(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _layers(traced: FakeTensorTrace) -> Iterator[Layer]:
    """One layer per operator that computes on activations or weights."""
    active = activations(traced)
    kept = {storage_of(tensor) for tensor in (*traced.parameters, *traced.buffers)}
    size_of = {storage_of(tensor): tensor.numel() for tensor in traced.parameters}
    for step in traced.steps:
        storages = {storage_of(tensor) for tensor in (*step.reads, *step.writes)}
        if not step.computes or storages.isdisjoint(active | kept):
            continue
        moved = [each for each in (*step.reads, *step.writes) if storage_of(each) in active]
        constants = [each for each in step.reads if storage_of(each) not in active]
        yield Layer(
            path=step.path,
            operator=step.operator,
            output_shape=tuple(step.writes[0].shape),
            parameters=sum(size_of.pop(storage, 0) for storage in storages),
            macs=step.macs,
            weight_bytes=sum(map(bytes_of, constants)),
            activation_bytes=sum(map(bytes_of, moved)),
        )

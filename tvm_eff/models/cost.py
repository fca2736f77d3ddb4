"""What a network costs on paper: parameters, multiply-accumulates, bytes, peak memory.

Multiply-accumulates (MACs) are those of convolutions, dense layers and other matrix
products, as PyTorch's own counter knows them, half its floating-point operations. A
zero that padding adds counts like any other value, as is usual: a convolution has output
elements x weights of one output channel, a transposed one input elements x weights of
one input channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export.graph_signature import InputKind
from torch.utils.flop_counter import FlopCounterMode

from tvm_eff.models.liveness import aliases, bytes_of, peak_bytes, tensors_of
from tvm_eff.models.network import Network
from tvm_eff.models.program import quiet, trace
from tvm_eff.models.saving import Saving, savings

_CONSTANTS = (InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


@dataclass(frozen=True)
class Layer:
    """One operator of a network.

    Attributes
    ----------
    path
        The module it is in, such as ``features.3.squeeze``; empty for the network itself.
    operator
        ATen's name of it, such as ``conv2d``.
    output_shape
        The shape of its (first) output.
    parameters
        Trainable values it is the first to use.
    macs
        Multiply-accumulates.
    weight_bytes
        Bytes of parameters and constants it reads.
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
        """Floating-point operations (2 a MAC) for each byte read or written."""
        moved = self.weight_bytes + self.activation_bytes
        return 2 * self.macs / moved if moved else 0.0


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes
    ----------
    name
        The network's name.
    parameters
        Trainable values, shared ones counted once.
    buffers
        Values that are kept but not trained, such as running statistics.
    macs
        Multiply-accumulates of one inference.
    weight_bytes
        Bytes of the parameters.
    activation_bytes
        Bytes of activations that all operators read and write.
    peak_activation_bytes
        The most bytes of activations that are needed at one time, inputs and outputs
        included, if operators run one by one in the order of the program. Fusing them
        takes less; work space of single operators comes on top.
    layers
        The operators, in order.
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
    def arithmetic_intensity(self) -> float:
        """Floating-point operations (2 a MAC) for each byte read or written."""
        moved = sum(layer.weight_bytes for layer in self.layers) + self.activation_bytes
        return 2 * self.macs / moved if moved else 0.0


def account(network: Network) -> Cost:
    """Account for every operator of a network.

    Raises
    ------
    ModelError
        The network rejects its inputs or cannot be traced.
    """
    exported = trace(network).exported
    with quiet():
        layers = tuple(_layers(exported))
    state = exported.state_dict
    parameters = [state[name] for name in exported.graph_signature.parameters]
    buffers = [state[name] for name in exported.graph_signature.buffers if name in state]
    module = network.module
    return Cost(
        name=network.name,
        parameters=_values(parameters),
        buffers=_values(buffers),
        macs=sum(layer.macs for layer in layers),
        weight_bytes=sum(map(bytes_of, parameters)),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        peak_activation_bytes=peak_bytes(exported),
        layers=layers,
        factorized=tuple(savings(module, network)) if isinstance(module, nn.Module) else (),
    )


def count(network: Network) -> tuple[int, int]:
    """Return a module's parameters and MACs alone, which takes a fraction of the time.

    Raises
    ------
    TypeError
        It is a saved program.
    """
    module = network.module
    if not isinstance(module, nn.Module):
        raise TypeError("a saved program has no parameters of its own: use account")
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        inputs = [torch.empty(s.shape, dtype=getattr(torch, s.dtype)) for s in network.inputs]
        with FlopCounterMode(display=False) as counter:
            module(*inputs)
    return _values(list(module.parameters())), counter.get_total_flops() // 2


def _values(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _layers(exported: torch.export.ExportedProgram) -> Iterator[Layer]:
    """One row for each operator that computes something: views cost nothing."""
    constants = _constants(exported)
    trained = set(exported.graph_signature.inputs_to_parameters)
    met: set[str] = set()
    for node in exported.graph.nodes:
        if node.op != "call_function" or aliases(node) is not None:
            continue
        weights = [each for each in node.all_input_nodes if each.name in constants]
        activations = [each for each in node.all_input_nodes if each.name not in constants]
        new = [w for w in weights if w.name in trained and w.name not in met]
        met.update(each.name for each in new)
        outputs = tensors_of(node)
        yield Layer(
            path=_path(node),
            operator=_operator(node),
            output_shape=tuple(outputs[0].shape) if outputs else (),
            parameters=sum(_values(tensors_of(each)) for each in new),
            macs=_macs(node),
            weight_bytes=sum(bytes_of(t) for each in weights for t in tensors_of(each)),
            activation_bytes=sum(
                bytes_of(t) for each in (*activations, node) for t in tensors_of(each)
            ),
        )


def _constants(exported: torch.export.ExportedProgram) -> set[str]:
    signature = exported.graph_signature
    return set(signature.inputs_to_parameters) | {
        spec.arg.name for spec in signature.input_specs if spec.kind in _CONSTANTS
    }


def _macs(node: torch.fx.Node) -> int:
    if not isinstance(node.target, torch._ops.OpOverload):
        return 0

    def value(argument: Any) -> Any:
        return argument.meta["val"] if isinstance(argument, torch.fx.Node) else argument

    arguments = torch.fx.node.map_arg(node.args, value)
    keywords = torch.fx.node.map_arg(node.kwargs, value)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        node.target(*arguments, **keywords)
    return int(counter.get_total_flops()) // 2


def _path(node: torch.fx.Node) -> str:
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    return str(modules[-1][0]) if modules else ""


def _operator(node: torch.fx.Node) -> str:
    name = getattr(node.target, "__name__", str(node.target))
    return name.partition(".")[0]

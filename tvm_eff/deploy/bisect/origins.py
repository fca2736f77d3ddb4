"""Which of PyTorch's operators a kernel computes: found by the values themselves.

Neither our passes nor TVM's keep a trace of where a kernel comes from. But PyTorch's value at
every operator is known, and a kernel that is right computes one of them, in its own layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from tvm_eff import frontend
from tvm_eff.frontend import constants
from tvm_eff.tensors import relative_error

_NEAR = 1e-4
"""What counts as the same value: sums in another order, of all operators so far."""

_STEPS = 3
"""How many of PyTorch's operators a pass may have dropped behind a kernel."""


@dataclass(frozen=True)
class Origin:
    """An operator whose value a tensor holds.

    Attributes
    ----------
    node
        The operator, or an input of the network.
    channels_last
        Whether the tensor holds it with its second axis last.
    """

    node: torch.fx.Node
    channels_last: bool

    def of_same_layout(self, value: np.ndarray) -> np.ndarray:
        """Return a value of PyTorch's in the layout of the tensor."""
        return np.moveaxis(value, 1, -1) if self.channels_last else value


class Origins:
    """PyTorch's values at all operators, for one input of the network."""

    def __init__(self, core: ExportedProgram, inputs: Sequence[np.ndarray]) -> None:
        recorder = _Recorder(core)
        with torch.no_grad():
            recorder.run(*constants.arguments(core, inputs))
        self.values = recorder.values
        self._nodes = [each for each in core.graph.nodes if each.name in self.values]
        self._sums = {name: _sum(value) for name, value in self.values.items()}
        self._above: dict[torch.fx.Node, set[torch.fx.Node]] = {}
        for node in core.graph.nodes:
            inputs_of = node.all_input_nodes
            self._above[node] = set(inputs_of).union(*(self._above[each] for each in inputs_of))

    def find(self, tensor: np.ndarray, after: Iterable[Origin] = ()) -> Origin | None:
        """Return the first operator that computes what a tensor holds; None if none does.

        Parameters
        ----------
        tensor
            Perhaps with more channels, to fill vectors.
        after
            Where the tensor was computed from: only what depends on one of these is looked at.
        """
        start = {each.node for each in after}
        for node in self._nodes:
            if start and node not in start and not start & self._above[node]:
                continue
            for channels_last in (False, True):
                origin = Origin(node, channels_last)
                if self._holds(tensor, origin):
                    return origin
        return None

    def operators(self, inputs: Iterable[Origin], output: Origin) -> list[str]:
        """Return the operators between, with their modules and lines, in order."""
        before = {each.node for each in inputs}
        for each in list(before):
            before |= self._above[each]
        between = (self._above[output.node] | {output.node}) - before
        return [
            frontend.described(node)
            for node in self._nodes
            if node in between and _is_operator(node)
        ]

    def later(self, origin: Origin) -> Iterator[Origin]:
        """Return the operators of the same shape that follow, each the next one's only input."""
        shape, node = self.values[origin.node.name].shape, origin.node
        for _ in range(_STEPS):
            users = [each for each in node.users if each.name in self.values]
            if len(users) != 1 or self.values[users[0].name].shape != shape:
                return
            node = users[0]
            yield Origin(node, origin.channels_last)

    def nearest(self, tensor: np.ndarray, after: Sequence[Origin]) -> Origin | None:
        """Return the operator behind `after` that computes most nearly what a tensor holds."""
        start = {each.node for each in after}
        found: tuple[float, Origin] | None = None
        for node in self._nodes:
            for origin in (Origin(node, False), Origin(node, True)):
                wanted = self.laid_out(origin, tensor) if start & self._above[node] else None
                if wanted is None:
                    continue
                error = float(np.square(tensor.astype("float64") - wanted).sum())
                if found is None or error < found[0]:
                    found = (error, origin)
        return None if found is None else found[1]

    def laid_out(self, origin: Origin, tensor: np.ndarray) -> np.ndarray | None:
        """Return PyTorch's value of an operator in a tensor's layout; None if it does not fit."""
        value = self.values[origin.node.name]
        if origin.channels_last and value.ndim < 3:
            return None
        value = origin.of_same_layout(value)
        if value.dtype == tensor.dtype and value.size == tensor.size:
            return value.reshape(tensor.shape)
        return None

    def _holds(self, tensor: np.ndarray, origin: Origin) -> bool:
        value = self.values[origin.node.name]
        if value.dtype != tensor.dtype or (origin.channels_last and value.ndim < 3):
            return False
        if value.size != tensor.size:
            padded = value.ndim == tensor.ndim >= 3 and origin.channels_last
            if not padded or value.shape[1] > tensor.shape[-1]:
                return False
            tensor = tensor[..., : value.shape[1]]
        if value.size != tensor.size or not _are_near(_sum(tensor), self._sums[origin.node.name]):
            return False
        wanted = origin.of_same_layout(value).reshape(tensor.shape)
        return relative_error(tensor, wanted) <= _NEAR


class _Recorder(torch.fx.Interpreter):
    """Keeps the value of every operator."""

    def __init__(self, core: ExportedProgram) -> None:
        super().__init__(core.graph_module)
        self.values: dict[str, np.ndarray] = {}
        self._inputs = set(core.graph_signature.user_inputs)

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run an operator, and keep its value if it is one tensor."""
        result = super().run_node(n)
        # Not of weights, which no kernel computes.
        kept = _is_operator(n) or n.name in self._inputs
        if kept and isinstance(result, torch.Tensor):
            self.values[n.name] = result.detach().contiguous().numpy().copy()
        return result


def _is_operator(node: torch.fx.Node) -> bool:
    return node.op == "call_function"


def _sum(value: np.ndarray) -> float:
    return float(np.abs(value.astype("float64")).sum())


def _are_near(one: float, other: float) -> bool:
    # NaN is near to nothing; what holds one is compared in full.
    return not abs(one - other) > 1e-3 * max(abs(one), abs(other))

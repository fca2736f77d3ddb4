"""What a network computes if some layers are in integers or float16: quickly, in float32.

A value that integers stand for is rounded to their steps where the converted program rounds it,
what a layer in float16 reads is rounded to that, and nothing is converted or exported. Where only
some layers change, what lies before them is taken from an earlier run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch.fx import Node
from torch.utils import _pytree as pytree

from tvm_eff.frontend.half import rounded
from tvm_eff.quantize import operators
from tvm_eff.quantize.observed import Observed, needed_observers, observer_of
from tvm_eff.quantize.precision import Precisions, layers_in

Values = Mapping[Node, Any]
"""The values of all nodes in one run."""


class Simulator:
    """Runs a prepared network with some of its layers in integers or in float16.

    Parameters
    ----------
    observed
        The network.
    """

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        self._graph = observed.prepared
        self._needed: dict[frozenset[str], set[Node]] = {}
        self._rounded = _Rounding()

    def run(
        self, inputs: Sequence[np.ndarray], layers: Precisions, before: Values | None = None
    ) -> Values:
        """Return the value of every node.

        Parameters
        ----------
        inputs
            The network's inputs.
        layers
            What layers are computed in.
        before
            What a run in float32 computed for these inputs.
        """
        key = layers_in("int8", layers)
        if key not in self._needed:
            self._needed[key] = needed_observers(self._graph, key)
        run = _Run(self, self._needed[key], layers_in("float16", layers), before)
        with torch.no_grad():
            run.run(*[torch.from_numpy(np.ascontiguousarray(each)) for each in inputs])
        return run.env

    def outputs(self, values: Values) -> list[np.ndarray]:
        """Return the outputs of a run, in order."""
        (last,) = [node for node in self._graph.graph.nodes if node.op == "output"]
        return [each.detach().numpy() for each in pytree.tree_leaves(values[last])]

    def largest(self, node: Node, values: Values) -> float:
        """Return what nothing of a layer exceeds: its factors, and sums in whatever order.

        Parameters
        ----------
        node
            The layer.
        values
            Those of a run.
        """
        known = torch.fx.map_arg((node.args, node.kwargs), values.__getitem__)
        args, kwargs = pytree.tree_map_only(torch.Tensor, torch.abs, known)
        target: Any = node.target
        with torch.no_grad():
            sums = target(*args, **kwargs)
        factors = [args[place] for place in operators.factors_of(node)]
        return max(float(each.max()) for each in (sums, *factors))

    def rounded(self, node: Node, value: torch.Tensor) -> torch.Tensor:
        """Round a value to the steps that an observer has found for it."""
        return self._rounded(observer_of(self._graph, node), value)

    @property
    def graph(self) -> torch.fx.GraphModule:
        """The prepared network."""
        return self._graph


class _Rounding:
    """Rounds to the steps of observers, each of which is asked for them once."""

    def __init__(self) -> None:
        self._steps: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, observer: Any, value: torch.Tensor) -> torch.Tensor:
        if id(observer) not in self._steps:
            self._steps[id(observer)] = observer.calculate_qparams()
        scale, zero = self._steps[id(observer)]
        limits = int(observer.quant_min), int(observer.quant_max)
        if scale.numel() > 1 or (value.dim() and scale.dim() and hasattr(observer, "ch_axis")):
            axis = int(getattr(observer, "ch_axis", 0))
            zeros = zero.to(torch.int32)
            return torch.fake_quantize_per_channel_affine(
                value, scale.float(), zeros, axis, *limits
            )
        return torch.fake_quantize_per_tensor_affine(value, float(scale), int(zero), *limits)


class _Run(torch.fx.Interpreter):
    def __init__(
        self, simulator: Simulator, needed: Set[Node], halves: Set[str], before: Values | None
    ) -> None:
        super().__init__(simulator.graph, garbage_collect_values=False)
        # A call must not wrap what an operator raises in a listing of the graph.
        self.extra_traceback = False
        self._simulator, self._needed, self._before = simulator, needed, before
        self._halves = halves
        self._changed: set[Node] = set()

    def run_node(self, n: Node) -> Any:
        changes = n in self._needed or n.name in self._halves
        changes = changes or any(each in self._changed for each in n.all_input_nodes)
        if changes:
            self._changed.add(n)
        elif self._before is not None and n.op != "placeholder":
            return self._before[n]
        if observer_of(self._simulator.graph, n) is None:
            return super().run_node(n)
        value = self.fetch_args_kwargs_from_env(n)[0][0]
        return self._simulator.rounded(n, value) if n in self._needed else value

    def fetch_args_kwargs_from_env(self, n: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what an operator reads: rounded, if it is a layer in float16."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        if n.name not in self._halves:
            return args, kwargs
        places = operators.factors_of(n)
        read = (rounded(each) if place in places else each for place, each in enumerate(args))
        return tuple(read), kwargs

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call an operator, which must not write into a value that another run reads."""
        schema = getattr(target, "_schema", None)
        if schema is not None and schema.is_mutable:
            args = pytree.tree_map_only(torch.Tensor, torch.clone, args)
        return super().call_function(target, args, kwargs)

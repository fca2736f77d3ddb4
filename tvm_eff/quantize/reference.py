"""A quantized program with exact sums, bit for bit what integers compute: in PyTorch alone.

PyTorch itself runs a quantized program in float32: sums of products are rounded on the way, so
that a value halfway between two integers may become the other one. Here every value carries the
integers and the scale that it stands for, sums are of 64 bits, and they are scaled as the kernels
do: once, in float32, rounded half to even. It shares no code with the passes that it judges.

What a layer in float16 reads is rounded to it, as the program says, and summed in float32; a
library may keep such sums in float16, within what is allowed of a kernel
(:func:`tvm_eff.tensors.kernel_tolerance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.fx import Node
from torch.utils import _pytree as pytree

from tvm_eff.frontend import constants
from tvm_eff.frontend.half import ROUND
from tvm_eff.models import Program
from tvm_eff.quantize.steps import RULES, Scaled, plain
from tvm_eff.tensors import OF_MAGNITUDE, kernel_tolerance, relative_error

_OF_A_HALF_SUM = kernel_tolerance(["float16"])
"""What a schedule's sums in float16 make of a value, as a fraction of its channel's largest."""

_MOVES = ("permute.default", "reshape.default", "view.default")
"""What may stand between a value that is rounded to float16 and the layer that reads it."""

_RUNS_BY_CHANCE = 12
"""A value within half of the nudge from a tie falls the other way in none of them once in 30."""


@dataclass(frozen=True)
class QuantizedProgram(Program):
    """A quantized network, which is run exactly.

    Attributes
    ----------
    core
        It in core operators.
    """

    core: torch.export.ExportedProgram | None = None

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs in order."""
        return self._run(inputs)[0]

    def run_in_double_precision(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Return None: the outputs are exact."""
        return None

    def is_exact(self, inputs: Sequence[np.ndarray]) -> bool:
        """Whether nothing but inputs is rounded from floating point to integers."""
        return self._run(inputs)[1] == 0

    def moved_by_chance(
        self, inputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]
    ) -> tuple[float, ...]:
        """Return how far the last bits of numbers move each output, as a fraction of its spread.

        Between layers in integers, values that were computed in float32 or float16 are rounded to
        steps. One halfway between two steps becomes either, as its last bits are: here they are
        chosen by chance, several times over. 0 where no such numbers are rounded but inputs.

        Parameters
        ----------
        inputs
            The network's inputs.
        expected
            Its outputs for them.
        """
        moved = np.zeros(len(expected))
        if self.is_exact(inputs):
            return tuple(moved)
        for seed in range(_RUNS_BY_CHANCE):
            found, _ = self._run(inputs, torch.Generator().manual_seed(seed))
            errors = [relative_error(a, b) for a, b in zip(found, expected, strict=True)]
            moved = np.maximum(moved, errors)
        return tuple(map(float, moved))

    def run_in_float32(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what PyTorch computes: the same but for values between two integers."""
        return super().run(inputs)

    def _run(
        self, inputs: Sequence[np.ndarray], chance: torch.Generator | None = None
    ) -> tuple[list[np.ndarray], int]:
        assert self.core is not None
        interpreter = _Interpreter(self.core.graph_module, chance)
        with torch.no_grad():
            results = interpreter.run(*constants.arguments(self.core, inputs))
        arrays = [plain(each).numpy() for each in pytree.tree_leaves(results)]
        return arrays, interpreter.rounded


def exact(program: Program, core: torch.export.ExportedProgram) -> QuantizedProgram:
    """Return a quantized program that runs exactly.

    Parameters
    ----------
    program
        The network.
    core
        What :func:`tvm_eff.frontend.decompose` made of it.
    """
    fields = {name: getattr(program, name) for name in Program.__dataclass_fields__}
    return QuantizedProgram(**fields, core=core)


class _Interpreter(torch.fx.Interpreter):
    """Runs each operator on integers where there is a rule for it, and on numbers elsewhere.

    Parameters
    ----------
    module
        The network in core operators.
    chance
        What chooses the last bits of what is rounded from floating point; None to leave them.

    Attributes
    ----------
    rounded
        How many values were rounded from floating point, other than inputs.
    """

    def __init__(self, module: torch.fx.GraphModule, chance: torch.Generator | None = None) -> None:
        super().__init__(module)
        self.rounded, self._chance = 0, chance

    def run_node(self, n: Node) -> Any:
        if n.op != "call_function":
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        name = str(getattr(n.target, "__name__", n.target))
        rule = RULES.get(name)
        found = None if rule is None or kwargs else rule(*args)
        if found is not None:
            return found
        source: Any = n.args[0] if n.args else None
        if name == "quantize_per_tensor.default" and source.op != "placeholder":
            self.rounded += 1
            value = plain(args[0])
            args = (self._nudged(value, OF_MAGNITUDE * value.abs().max()), *args[1:])
        numbers = pytree.tree_map_only(Scaled, plain, (args, kwargs))
        target: Any = n.target
        result = target(*numbers[0], **numbers[1])
        is_sum = n.target is not ROUND and name not in _MOVES
        if is_sum and any(map(_is_half, n.all_input_nodes)):
            return self._nudged(result, _OF_A_HALF_SUM * _largest(result))
        return result

    def _nudged(self, value: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
        """Move values by chance, by no more than `most`."""
        if self._chance is None:
            return value
        share = 2 * torch.rand(value.shape, generator=self._chance) - 1
        return value + share * most


def _largest(value: torch.Tensor) -> torch.Tensor:
    """The largest magnitude in each channel of images, whose sums are as large; else of all."""
    found = value.abs()
    return found.amax((0, 2, 3), keepdim=True) if value.dim() == 4 else found.max()


def _is_half(node: Node) -> bool:
    """Whether a value is rounded to float16, for a layer that reads it."""
    if node.target is ROUND:
        return True
    name = str(getattr(node.target, "__name__", node.target))
    return name in _MOVES and _is_half(node.all_input_nodes[0])

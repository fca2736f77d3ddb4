"""A quantized program with exact sums, bit for bit what integers compute: in PyTorch alone.

PyTorch itself runs a quantized program in float32: sums of products are rounded on the way, so
that a value halfway between two integers may become the other one. Here every value carries the
integers and the scale that it stands for, sums are of 64 bits, and they are scaled as the kernels
do: once, in float32, rounded half to even. It shares no code with the passes that it judges.
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
from tvm_eff.models import Program
from tvm_eff.quantize.steps import RULES, Scaled, plain


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
        return self._run(inputs)[1] <= len(self.inputs)

    def run_in_float32(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what PyTorch computes: the same but for values between two integers."""
        return super().run(inputs)

    def _run(self, inputs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int]:
        assert self.core is not None
        interpreter = _Interpreter(self.core.graph_module)
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

    Attributes
    ----------
    rounded
        How many values were rounded from floating point.
    """

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.rounded = 0

    def run_node(self, n: Node) -> Any:
        if n.op != "call_function":
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        name = str(getattr(n.target, "__name__", n.target))
        rule = RULES.get(name)
        found = None if rule is None or kwargs else rule(*args)
        if found is not None:
            return found
        if name == "quantize_per_tensor.default":
            self.rounded += 1
        numbers = pytree.tree_map_only(Scaled, plain, (args, kwargs))
        target: Any = n.target
        return target(*numbers[0], **numbers[1])

"""Small networks quantized, and their kernels run here as lowered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import tvm
from torch import nn
from tvm import relax

from tvm_eff import frontend, models, passes, quantize, targets
from tvm_eff.models import Network, Program
from tvm_eff.passes import RelaxNetwork
from tvm_eff.quantize import Activations, QuantizedProgram
from tvm_eff.targets import Target
from tvm_eff.tensors import TensorSpec, random_inputs

HOST = targets.load("host")
_LIBRARY = torch.ops.quantized_decomposed
# Each kernel runs a few times, so that LLVM's optimizations would take longer than they save.
_QUICKLY = tvm.target.Target({"kind": "llvm", "opt-level": 0})


@dataclass(frozen=True)
class Case:
    """A network before and after, and what it is lowered to."""

    original: Program
    quantized: QuantizedProgram
    lowered: RelaxNetwork
    in_float32: tuple[str, ...]

    def inputs(self, seed: int) -> list[np.ndarray]:
        return random_inputs(self.original.network.inputs, seed)

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the kernels without schedules."""
        found = _machine(self.lowered.mod)["main"](
            *[tvm.runtime.tensor(each) for each in (*inputs, *self.lowered.params)]
        )
        return [each.numpy() for each in ([found] if hasattr(found, "numpy") else found)]

    def weights(self) -> set[str]:
        """Return the dtypes of all parameters that are no vectors."""
        return {
            str(each.dtype) for each in self.lowered.params if sum(n > 1 for n in each.shape) > 1
        }


def traced(model: nn.Module, *shapes: Sequence[int]) -> Program:
    specs = tuple(TensorSpec(tuple(shape), "float32") for shape in shapes)
    return models.trace(Network("net", model.eval(), specs))


def quantized(model: nn.Module, *shapes: Sequence[int], activations: Activations = "uint8") -> Case:
    """Quantize a network on random inputs and lower it for this machine."""
    original = traced(model, *shapes)
    found = quantize.quantize(original, None, None, activations)
    return imported(found.program, original, found.in_float32)


def imported(
    program: Program,
    original: Program,
    in_float32: tuple[str, ...] = (),
    target: Target = HOST,
    dtype: str = "int8",
) -> Case:
    """Lower a network that is quantized already."""
    core = frontend.decompose(program)
    network = passes.lower(frontend.import_program(program, core), target, dtype)
    return Case(original, quantize.exact(program, core), network, in_float32)


@lru_cache(maxsize=1)
def _machine(mod: tvm.IRModule) -> relax.VirtualMachine:
    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        return relax.VirtualMachine(relax.build(mod, target=_QUICKLY), tvm.cpu())


class Added(nn.Module):
    """Two branches of different ranges, added and limited."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.one(x))
        return self.last(torch.relu(y + self.other(y)))


class Gated(nn.Module):
    """Squeeze and excitation: a product with what stays in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.last = (
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 4, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        return self.last(y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True))))


class Joined(nn.Module):
    """Branches side by side, whose scale is one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 16, 3, padding=1)
        self.last = nn.Conv2d(24, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.cat([torch.relu(self.one(x)), self.other(x)], 1))


class Wide(nn.Module):
    """One channel is a thousand times as wide as the others, and `reads` needs these."""

    CLASSES = 4

    def __init__(self, classes: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.reads = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.last = nn.Conv2d(16, self.CLASSES, 3, padding=1)
        self.classes = classes
        with torch.no_grad():
            self.first.weight[0] *= 1000
            self.reads.weight[:, 0] /= 1000

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last(torch.relu(self.reads(torch.relu(self.first(x)))))
        # The differences between places: a mean would be much the same for all inputs.
        return y[:, :, 0, 0] - y[:, :, 6, 6] if self.classes else y


class Narrow(nn.Module):
    """A weight of four bits between conversions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held = _LIBRARY.quantize_per_tensor(x, 0.1, 0, -8, 7, torch.int8)
        return _LIBRARY.dequantize_per_tensor(held, 0.1, 0, -8, 7, torch.int8)


def between(*layers: nn.Module, channels: int = 16, outputs: int = 16) -> nn.Module:
    """Layers between two convolutions, which read and write integers."""
    return nn.Sequential(nn.Conv2d(8, channels, 1), *layers, nn.Conv2d(outputs, 4, 1))

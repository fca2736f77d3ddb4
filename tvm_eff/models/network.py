"""A PyTorch network and the specification of its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from tvm_eff.tensors import TensorSpec


@dataclass(frozen=True)
class Network:
    """A network to compile.

    Attributes
    ----------
    name
        Its name in tables, and in the name of its bundle.
    module
        The module in inference mode, or a program saved by ``torch.export``.
    inputs
        The shape and dtype of each input, in the order the module takes them.
    """

    name: str
    module: nn.Module | torch.export.ExportedProgram = field(repr=False)
    inputs: tuple[TensorSpec, ...]

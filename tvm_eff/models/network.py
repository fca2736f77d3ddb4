"""A PyTorch network and the specification of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
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
    state
        The last inputs and outputs that are state, by their names: where to start from.
    """

    name: str
    module: nn.Module | torch.export.ExportedProgram = field(repr=False)
    inputs: tuple[TensorSpec, ...]
    state: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

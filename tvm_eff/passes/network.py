"""A network in Relax with its parameters: what the graph passes take and return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tvm


@dataclass(frozen=True)
class RelaxNetwork:
    """A network in Relax and its parameters.

    Attributes
    ----------
    mod
        A module whose ``main`` takes the inputs, then the parameters.
    params
        The parameters, in the order ``main`` takes them.
    inputs, outputs
        The names of the inputs and outputs.
    sources
        For each parameter, PyTorch's names of those that it is computed from.
    source_bytes
        What each of PyTorch's parameters has in the model, by its name.
    """

    mod: tvm.IRModule = field(repr=False)
    params: list[np.ndarray] = field(repr=False)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ("output",)
    sources: tuple[tuple[str, ...], ...] = ()
    source_bytes: Mapping[str, int] = field(default_factory=dict)

"""A network in Relax with its parameters: what the graph passes take and return."""

from __future__ import annotations

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
    """

    mod: tvm.IRModule = field(repr=False)
    params: list[np.ndarray] = field(repr=False)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ("output",)

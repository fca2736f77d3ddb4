"""What a native library does: kernel calls over one arena, its constants, the caller's tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tvm_eff.tensors import TensorSpec

Place = Literal["input", "output", "constant", "arena"]


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor that kernels read or write.

    Attributes
    ----------
    place
        Where it lies: in the caller's memory, among the constants, or in the arena.
    number
        Which input, output or constant it is; for the arena, at which byte it begins.
    shape, dtype
        What it looks like.
    """

    place: Place
    number: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class KernelCall:
    """A call of a kernel with tensors of the plan, by their numbers."""

    kernel: str
    tensors: tuple[int, ...]


@dataclass(frozen=True)
class Copy:
    """A tensor that is copied to an output after the last call."""

    tensor: int
    output: int


@dataclass(frozen=True)
class Plan:
    """What to do for an inference.

    Attributes
    ----------
    inputs, outputs
        What the network takes and returns.
    tensors, calls, copies
        The tensors, and what is done with them in order.
    at_load
        How many of the calls, the first ones, are done once: they make weights in the arena.
    constants
        The weights, as the kernels read them.
    arena_bytes
        The size of the arena.
    live_bytes
        The most bytes that are in use at once: no arena can be smaller.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tensors: tuple[PlannedTensor, ...]
    calls: tuple[KernelCall, ...]
    copies: tuple[Copy, ...]
    at_load: int
    constants: tuple[np.ndarray, ...]
    arena_bytes: int
    live_bytes: int

"""Tensors that stay on a device from one call to the next, so that they are sent once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from tvm_eff.tensors import TensorSpec, unwritten


class TensorCache:
    """The tensors of the last call; the next one takes over what it has in common with it."""

    def __init__(self) -> None:
        # The arrays themselves are held, as the place of one that is gone may be another's.
        self._inputs: list[tuple[np.ndarray, Any]] = []
        self._outputs: list[_Output] = []

    def clear(self) -> None:
        """Let go of all of them."""
        self._inputs, self._outputs = [], []

    def send(self, arrays: Sequence[np.ndarray], device: Any) -> list[Any]:
        """Return tensors on the device, new ones for arrays that the last call did not have."""
        known = {id(array): tensor for array, tensor in self._inputs}
        self._inputs = [
            (
                array,
                known[id(array)] if id(array) in known else tvm.runtime.tensor(array, device),
            )
            for array in arrays
        ]
        return [tensor for _, tensor in self._inputs]

    def unwritten(self, specs: Sequence[TensorSpec], device: Any) -> list[Any]:
        """Return tensors on the device that hold NaN, or -1 where there is none."""
        if [each.spec for each in self._outputs] != list(specs):
            self._outputs = [_Output(spec, device) for spec in specs]
        for each in self._outputs:
            each.blank.copyto(each.tensor)
        return [each.tensor for each in self._outputs]


class _Output:
    def __init__(self, spec: TensorSpec, device: Any) -> None:
        self.spec = spec
        # Copied from on the device: sending it again would cost as much as an input.
        self.blank = tvm.runtime.tensor(unwritten(spec), device)
        self.tensor = tvm.runtime.empty(spec.shape, spec.dtype, device)

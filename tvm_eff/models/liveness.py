"""Liveness of a traced program's activations, and their peak memory."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import torch

from tvm_eff.models.fake_tensor_trace import FakeTensorTrace, storage_of


def activations(traced: FakeTensorTrace) -> frozenset[int]:
    """Return the storages whose values depend on the network's inputs.

    All others are constants: weights, and values computed from weights alone.
    """
    found = {storage_of(tensor) for tensor in traced.inputs}
    for step in traced.steps:
        if any(storage_of(tensor) in found for tensor in step.reads):
            found.update(storage_of(tensor) for tensor in step.writes)
    return frozenset(found)


def peak_bytes(traced: FakeTensorTrace) -> int:
    """Return the peak bytes of live activations over the operators.

    Inputs are live from the start to their last use, outputs to the end. A view keeps its
    whole storage live. Constants and the workspace of operators do not count, and fusion
    is not considered.
    """
    counted = activations(traced)
    size: dict[int, int] = {}
    first: dict[int, int] = {}
    last: dict[int, int] = {}

    def use(tensors: Iterable[torch.Tensor], moment: int) -> None:
        for tensor in tensors:
            storage = storage_of(tensor)
            if storage in counted:
                size[storage] = tensor.untyped_storage().nbytes()
                first.setdefault(storage, moment)
                last[storage] = moment

    use(traced.inputs, 0)
    for moment, step in enumerate(traced.steps):
        use((*step.reads, *step.writes), moment)
    end = max(len(traced.steps), 1)
    use(traced.outputs, end)
    change = [0] * (end + 2)
    for storage, amount in size.items():
        change[first[storage]] += amount
        change[last[storage] + 1] -= amount
    return max(accumulate(change))

"""Which memory of a program is needed when, and how much of it at one time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import torch

from tvm_eff.models.fake_tensor_trace import Replay, storage_of


def activations(ran: Replay) -> frozenset[int]:
    """Return the storages whose values depend on the network's inputs.

    All others are constants: weights, and what is computed of weights alone.
    """
    found = {storage_of(tensor) for tensor in ran.inputs}
    for step in ran.steps:
        if any(storage_of(tensor) in found for tensor in step.reads):
            found.update(storage_of(tensor) for tensor in step.writes)
    return frozenset(found)


def peak_bytes(ran: Replay) -> int:
    """Return the most bytes of activations that are live while one operator runs.

    Inputs are live from the start until they were last read, outputs to the end. A view
    keeps the whole of the memory it looks at. Constants do not count, nor do the work
    space of single operators and what fusing them saves.
    """
    counted = activations(ran)
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

    use(ran.inputs, 0)
    for moment, step in enumerate(ran.steps):
        use((*step.reads, *step.writes), moment)
    end = max(len(ran.steps), 1)
    use(ran.outputs, end)
    change = [0] * (end + 2)
    for storage, amount in size.items():
        change[first[storage]] += amount
        change[last[storage] + 1] -= amount
    return max(accumulate(change))

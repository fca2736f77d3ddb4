"""Count multiply-accumulates (MACs) of whatever runs, however it is written.

MACs are those of convolutions, dense layers, recurrent layers, attention and other matrix
products, as PyTorch's own counter knows them, half its floating-point operations; what it
does not know of is added here. A zero that padding adds counts like any other value, as is
usual. A convolution has output elements x weights of one output channel, whatever its
groups, stride and dilation; a transposed one has input elements x weights of one input
channel. Adding a bias is no MAC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]


class Counter:
    """How many multiply-accumulates have run so far."""

    def __init__(self, operations: FlopCounterMode) -> None:
        self._operations = operations

    @property
    def macs(self) -> int:
        """Multiply-accumulates since the counter was made."""
        return int(self._operations.get_total_flops()) // 2


@contextmanager
def counting() -> Iterator[Counter]:
    """Count what runs meanwhile, on real tensors or (better) on fake ones.

    Libraries' kernels for attention and recurrence do several matrix products in one
    go, which no counter sees: PyTorch's own definitions run in their place.
    """
    onednn = torch._C._get_mkldnn_enabled()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    operations = FlopCounterMode(display=False, custom_mapping=_ADDED)
    # Not torch.backends.mkldnn.flags, which warns of settings it does not change.
    torch._C._set_mkldnn_enabled(False)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), operations, torch.no_grad():
            yield Counter(operations)
    finally:
        torch._C._set_mkldnn_enabled(onednn)
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _dot(a: Shape, b: Shape, **_: Any) -> int:
    return 2 * prod(a)


def _added_product(c: Shape, a: Shape, b: Shape, **_: Any) -> int:
    """``c + a @ b`` with a vector b, or with a batch of matrices that is summed over."""
    return 2 * prod(a) * (b[-1] if len(b) > 1 else 1)


_ADDED = {
    torch.ops.aten.dot: _dot,
    torch.ops.aten.mv: _dot,
    torch.ops.aten.addmv: _added_product,
    torch.ops.aten.addbmm: _added_product,
}

"""Count the multiply-accumulates (MACs) of executed operators.

Counted are convolutions, dense layers, recurrent layers, attention and other matrix products,
as half the floating-point operations of PyTorch's own counter, which is extended here by the
operators that it lacks. Padding counts like any other input, as is usual. A convolution has
output elements x weights per output channel, for any groups, stride and dilation; a
transposed one has input elements x weights per input channel. Adding a bias is no MAC.
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
    """A running count of multiply-accumulates."""

    def __init__(self, operations: FlopCounterMode) -> None:
        self._operations = operations

    @property
    def macs(self) -> int:
        """Multiply-accumulates since the counter was created."""
        return int(self._operations.get_total_flops()) // 2


@contextmanager
def counting() -> Iterator[Counter]:
    """Count the operators that run in the context, on real or (better) on fake tensors.

    Library kernels for attention and recurrence hide their matrix products from the
    counter: they are replaced by PyTorch's reference implementations.
    """
    onednn = torch._C._get_mkldnn_enabled()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    operations = FlopCounterMode(display=False, custom_mapping=_ADDED)
    # Not torch.backends.mkldnn.flags, which warns about settings that it does not change.
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

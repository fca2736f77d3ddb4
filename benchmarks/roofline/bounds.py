"""Which bound a kernel's time is nearest to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NEAR = 0.7
"""The share of a bound from which a kernel is said to be held by it."""
SHORT_S = 20e-6
"""A call that takes less is held by what every call takes: starting the threads, cold caches."""

ARITHMETIC = "arithmetic"
BANDWIDTH = "bandwidth beyond the second cache"
BETWEEN = "bandwidth, some of the data in the second cache"
CACHE = "bandwidth of the second cache"
FEWER = {
    "winograd": "Winograd's transforms and products",
    "winograd_half": "Winograd's transforms and products",
    "strassen": "Strassen's sums and products",
    "strassen_row_blocks": "Strassen's sums and products",
}
"""What holds kernels of rules that need fewer multiply-adds."""
COLD = "the network around it: alone, with warm caches and threads awake, it is faster"
CALL = "starting a short call"
INSTRUCTIONS = "instructions beside the multiply-adds"
RUNTIME = "the runtime between kernels"


@dataclass(frozen=True)
class Limits:
    """What the machine was measured to do in a second, all cores together.

    Attributes
    ----------
    flops
        Floating-point operations; a multiply-add is two.
    near
        Bytes read that are in the second caches.
    far
        Bytes read that fit into none of them.
    """

    flops: float
    near: float
    far: float

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Limits | None:
        """Read them from the results of layers.py, or None where it has no bandwidth."""
        found = result.get("bandwidth_gbs")
        if found is None:
            return None
        return cls(result["peak_gflops"] * 1e9, found["near"] * 1e9, found["far"] * 1e9)

    def arithmetic(self, row: Mapping[str, Any]) -> float:
        """Return the seconds of its direct computation's multiply-adds at the peak."""
        return float(2 * row.get("macs", 0) / self.flops)


def bound_of(row: Mapping[str, Any], limits: Limits) -> str:
    """Return what holds a kernel in the network, by its time there and alone.

    Bandwidth is held against the least bytes a kernel must move; alone, they come from the
    second cache.
    """
    if "alone_s" not in row:
        return RUNTIME
    seconds = row["in_network_s"] or row["alone_s"]
    if (fewer := FEWER.get(row.get("rule", ""))) is not None:
        return fewer
    arithmetic, far = limits.arithmetic(row), row["bytes"] / limits.far
    if arithmetic >= NEAR * seconds:
        return ARITHMETIC
    if far >= NEAR * seconds:
        # What is faster than its data could come from there has had some of them nearer.
        return BANDWIDTH if far * NEAR <= seconds else BETWEEN
    if seconds < SHORT_S * row["calls"]:
        return CALL
    near = row["bytes"] / limits.near
    if max(arithmetic, near) >= NEAR * row["alone_s"]:
        # Alone it is at its bound: what it lacks in the network is its data.
        return COLD
    if seconds > row["alone_s"] / NEAR:
        return COLD
    return INSTRUCTIONS if arithmetic >= near else CACHE

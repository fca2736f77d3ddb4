"""How much larger the weights of a library are than the model's, and because of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tvm_eff.deploy.manifest import WeightInfo

OTHER = "other passes"
"""Padding to whole vectors, batch norms that were folded, another dtype."""

COPIES = "copies"
"""What several calls of kernels take, as the steps of a recurrent network: each has its own."""


def growth(weights: Iterable[WeightInfo]) -> dict[str, int]:
    """Return how many bytes each algorithm adds to the weights, the most first.

    What is saved is negative. A number at an algorithm's end, such as the size of a tile, is
    left out of its name.
    """
    added: Counter[str] = Counter()
    for each in weights:
        added[_cause(each)] += each.bytes - each.model_bytes
    return {name: size for name, size in added.most_common() if size}


def _cause(weight: WeightInfo) -> str:
    if weight.algorithm:
        return weight.algorithm.rstrip("0123456789").replace("_", " ")
    return COPIES if weight.parameters and not weight.model_bytes else OTHER


def in_words(weights: Iterable[WeightInfo]) -> str:
    """Return the sizes in one line: ``13.2 MB for the model's 4.9 MB: winograd +6.6``."""
    listed = list(weights)
    total, model = sum(each.bytes for each in listed), sum(each.model_bytes for each in listed)
    parts = [f"{name} {size / 1e6:+.2f}" for name, size in growth(listed).items()]
    because = f": {', '.join(parts)}" if parts else ""
    return f"{total / 1e6:.2f} MB for the model's {model / 1e6:.2f} MB{because}"

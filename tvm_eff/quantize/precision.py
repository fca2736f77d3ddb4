"""What a layer can be computed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Precision = Literal["float32", "float16", "int8"]
"""What a layer can be computed in."""

Precisions = Mapping[str, Precision]
"""What layers are computed in, by the names of their nodes; others stay in float32."""


def layers_in(precision: Precision, layers: Precisions) -> frozenset[str]:
    """Return the names of the layers that are computed in a precision."""
    return frozenset(name for name, found in layers.items() if found == precision)

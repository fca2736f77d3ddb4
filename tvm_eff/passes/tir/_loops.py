"""Loops that are rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx


def rebuilt(loop: tirx.For, body: tirx.Stmt, annotations: Mapping[str, Any]) -> tirx.For:
    """Return a loop with another body and other annotations."""
    return tirx.For(
        loop.loop_var,
        loop.min,
        loop.extent,
        loop.kind,
        body,
        loop.thread_binding,
        dict(annotations),
        loop.step,
    )

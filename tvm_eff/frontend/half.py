"""An operator that rounds to float16, and its converter: what a layer in float16 reads.

A network in which some layers are in float16 stays a program in float32, as a quantized one does:
such a layer multiplies values that this operator has rounded, and sums them in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from tvm import relax

from tvm_eff.frontend.arithmetic import Converter

_NAMESPACE, _NAME = "tvm_eff", "round_to_float16"

if not hasattr(getattr(torch.ops, _NAMESPACE), _NAME):
    torch.library.define(f"{_NAMESPACE}::{_NAME}", "(Tensor x) -> Tensor")


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Return float32 values rounded to float16's, in float32; too large ones become infinite."""
    return x.to(torch.float16).to(torch.float32)


torch.library.impl(f"{_NAMESPACE}::{_NAME}", "CompositeExplicitAutograd")(rounded)
torch.library.register_fake(f"{_NAMESPACE}::{_NAME}")(torch.empty_like)

ROUND: Any = getattr(torch.ops, _NAMESPACE).round_to_float16.default
"""The operator, as graphs hold it."""


def rounds_to_half(exported: torch.export.ExportedProgram) -> bool:
    """Whether a program has layers in float16."""
    return any(node.target is ROUND for node in exported.graph.nodes)


def _round(node: torch.fx.Node, importer: Any) -> relax.Var:
    emit = importer.block_builder.emit
    half = emit(relax.op.astype(importer.env[node.args[0]], "float16"))
    return emit(relax.op.astype(half, "float32"))


CONVERTERS: dict[str, Converter] = {f"{_NAME}.default": _round}

"""Sums, means and maxima of rows of a table, by bags."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tvm import relax

from tvm_eff.frontend import constants
from tvm_eff.frontend.arithmetic import Converter, cast
from tvm_eff.frontend.nodes import UnsupportedError, arguments_of, shape_of

_SUM, _MEAN, _MAX = range(3)


def _embedding_bag(node: torch.fx.Node, importer: Any) -> relax.Var:
    """``_embedding_bag(weight, indices, offsets, ...)``: where each bag begins is a constant."""
    given = arguments_of(node)
    if any(user.args[1] != 0 for user in node.users):
        raise UnsupportedError("its results beside the bags belong to training")
    offsets = constants.value_of(node.args[2])  # type: ignore[arg-type]
    if offsets is None:
        raise UnsupportedError("the offsets are computed from the input; make them a buffer")
    count = shape_of(node.args[1])[0]
    begins = offsets.tolist()
    ends = begins[1:] if given["include_last_offset"] else [*begins[1:], count]
    bags = list(zip(begins[: len(ends)], ends, strict=True))
    return importer.block_builder.emit(relax.Tuple([_bags(node, given, bags, importer)] * 4))


def _bags(
    node: torch.fx.Node, given: dict[str, Any], bags: list[tuple[int, int]], importer: Any
) -> relax.Var:
    emit = importer.block_builder.emit
    weight, indices = (importer.env[each] for each in node.args[:2])
    dtype, mode = str(weight.ty.dtype), given["mode"]
    rows = emit(relax.op.take(weight, indices, 0, mode="clip"))
    if given["per_sample_weights"] is not None:
        factors = cast(importer.env[given["per_sample_weights"]], dtype, importer)
        rows = emit(relax.op.multiply(rows, emit(relax.op.expand_dims(factors, 1))))
    widest = max(1, *(end - begin for begin, end in bags))
    places = [
        [min(begin + k, shape_of(node.args[1])[0] - 1) for k in range(widest)] for begin, _ in bags
    ]
    inside = np.asarray([[k < end - begin for k in range(widest)] for begin, end in bags])
    at = relax.const(np.asarray(places, "int32").ravel())
    shaped = [len(bags), widest, shape_of(node.args[0])[1]]
    taken = emit(relax.op.reshape(emit(relax.op.take(rows, at, 0, mode="clip")), shaped))
    counted = emit(relax.op.expand_dims(relax.const(inside), 2))
    if given["padding_idx"] >= 0:
        number = relax.const(given["padding_idx"], str(indices.ty.dtype))
        real = emit(relax.op.not_equal(indices, number))
        real = emit(relax.op.take(real, at, 0, mode="clip"))
        real = emit(relax.op.reshape(real, [*shaped[:2], 1]))
        counted = emit(relax.op.logical_and(counted, real))
    nothing = relax.const(-np.inf if mode == _MAX else 0.0, dtype)
    chosen = emit(relax.op.where(counted, taken, nothing))
    size = emit(relax.op.sum(emit(relax.op.astype(counted, dtype)), [1]))
    if mode == _MAX:
        largest = emit(relax.op.max(chosen, [1]))
        filled = emit(relax.op.greater(size, relax.const(0, dtype)))
        return emit(relax.op.where(filled, largest, relax.const(0, dtype)))
    total = emit(relax.op.sum(chosen, [1]))
    if mode == _SUM:
        return total
    return emit(relax.op.divide(total, emit(relax.op.maximum(size, relax.const(1, dtype)))))


CONVERTERS: dict[str, Converter] = {
    "_embedding_bag.default": _embedding_bag,
    "_embedding_bag_forward_only.default": _embedding_bag,
}
"""By ATen name."""

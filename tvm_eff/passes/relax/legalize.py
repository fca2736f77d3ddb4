"""Operators as PrimFuncs: TVM's own, but for reductions whose results are not PyTorch's.

TVM's maximum of floats begins with the least finite one, so that the maximum of a row of nothing
but negative infinity, as of one that is masked altogether, would be -3.4e38; and it forgets NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.relax import transform

from tvm_eff.passes.relax import long_sums, normalization, quantization

Legalize = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def legalize_operators() -> tvm.transform.Pass:
    """Return the pass."""
    return transform.LegalizeOps(
        {
            "relax.max": _from_infinity("relax.max", largest=True),
            "relax.min": _from_infinity("relax.min", largest=False),
            **long_sums.legalizations(),
            **normalization.legalizations(),
            **quantization.legalizations(),
        }
    )


def _from_infinity(name: str, *, largest: bool) -> Legalize:
    usual = tvm.ir.Op.get(name).get_attr("FLegalize")

    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        source = call.args[0]
        if not str(source.ty.dtype).startswith("float"):
            return usual(builder, call)
        rank = int(source.ty.ndim)
        axes = range(rank) if call.attrs.axis is None else map(int, call.attrs.axis)
        reduced = sorted({axis % rank for axis in axes})
        keep = bool(call.attrs.keepdims)

        def reduce(tensor: te.Tensor) -> te.Tensor:
            return _reduction(tensor, reduced, keep=keep, largest=largest)

        return builder.call_te(reduce, source, primfunc_name_hint=name.removeprefix("relax."))

    return legalize


def _reduction(
    source: te.Tensor, reduced: Sequence[int], *, keep: bool, largest: bool
) -> te.Tensor:
    rank = len(source.shape)
    steps = {d: te.reduce_axis((0, source.shape[d]), name=f"k{d}") for d in reduced}
    kept = [d for d in range(rank) if d not in steps]
    infinity = float("-inf") if largest else float("inf")
    reducer = te.comm_reducer(
        lambda a, b: tirx.Select(tirx.any(a > b if largest else a < b, tirx.isnan(a)), a, b),
        lambda dtype: tirx.const(infinity, dtype),
        name="extreme",
    )

    def element(*indices: Any) -> Any:
        given = dict(zip(range(rank) if keep else kept, indices, strict=True))
        place = [steps[d] if d in steps else given[d] for d in range(rank)]
        return reducer(source(*place), axis=list(steps.values()))

    shape = [1 if d in steps else source.shape[d] for d in range(rank)]
    return te.compute(shape if keep else [shape[d] for d in kept], element, name="extreme")

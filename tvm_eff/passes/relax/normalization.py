"""Normalisations as PrimFuncs whose variance is the mean square of what is left of the mean.

TVM's take the mean of the squares less the square of the mean, of which rounding leaves nothing
right where the mean is large beside the deviation: an image of a wall at 200, give or take one,
was off by a third of the result, and one that is 255 throughout became NaN. PyTorch keeps running
means (Welford, in ATen/native/cpu/moments_utils.h); here all is relative to a first element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx

from tvm_eff.passes.relax.long_sums import blocked_sum

Legalize = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]
Indices = Sequence[Any]


def legalizations() -> dict[str, Legalize]:
    """Return the operators and what legalises them."""
    return {
        "relax.nn.group_norm": _legalize,
        "relax.nn.instance_norm": _legalize,
        "relax.nn.layer_norm": _legalize,
    }


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    data, gamma, beta = call.args
    rank = int(data.ty.ndim)
    axes = sorted(int(axis) % rank for axis in call.attrs.axes)
    channel = getattr(call.attrs, "channel_axis", None)
    groups = getattr(call.attrs, "num_groups", None)

    def compute(x: te.Tensor, scale: te.Tensor, shift: te.Tensor) -> te.Tensor:
        return _normalized(
            x,
            scale,
            shift,
            axes=axes,
            channel=None if channel is None else int(channel) % rank,
            groups=None if groups is None else int(groups),
            epsilon=float(call.attrs.epsilon),
        )

    name = call.op.name.removeprefix("relax.nn.")
    return builder.call_te(compute, data, gamma, beta, primfunc_name_hint=name)


def _normalized(
    x: te.Tensor,
    gamma: te.Tensor,
    beta: te.Tensor,
    *,
    axes: Sequence[int],
    channel: int | None,
    groups: int | None,
    epsilon: float,
) -> te.Tensor:
    rank, dtype = len(x.shape), x.dtype
    size = None if groups is None else int(x.shape[channel]) // groups
    kept = [d for d in range(rank) if d not in axes]
    shape = [groups if size is not None and d == channel else x.shape[d] for d in kept]
    steps = {d: int(x.shape[d]) for d in axes}
    if size is not None and channel is not None:
        steps[channel] = size
    count = math.prod(steps.values())

    def value(place: Indices, key: Indices) -> Any:
        """An element less the first one of those that it is normalised with.

        Rounding takes from sums of these what it would take from a deviation as large as theirs.
        """
        given = dict(zip(kept, key, strict=True))
        first = [_place(d, given, dict.fromkeys(steps, 0), size) for d in range(rank)]
        return x(*place).astype("float32") - x(*first).astype("float32")

    def reduced(term: Callable[[Indices, Indices], Any]) -> te.Tensor:
        def element(*indices: Any) -> Any:
            key, steps_taken = indices[: len(kept)], indices[len(kept) :]
            given = dict(zip(kept, key, strict=True))
            taken = dict(zip(steps, steps_taken, strict=True))
            return term([_place(d, given, taken, size) for d in range(rank)], key)

        terms = te.compute([*shape, *steps.values()], element, name="terms")
        axes_of_terms = range(len(kept), len(terms.shape))
        return blocked_sum(terms, axes_of_terms, keep=False)

    total = reduced(value)
    number = tirx.const(count, "float32")

    def centred(place: Indices, key: Indices) -> Any:
        return value(place, key) - total(*key) / number

    squares = reduced(lambda place, key: centred(place, key) * centred(place, key))

    def normal(*place: Any) -> Any:
        key = [place[d] // size if size is not None and d == channel else place[d] for d in kept]
        of = [place[channel]] if channel is not None else [place[d] for d in axes]
        deviation = tirx.rsqrt(squares(*key) / number + tirx.const(epsilon, "float32"))
        scaled = centred(place, key) * deviation * gamma(*of).astype("float32")
        return (scaled + beta(*of).astype("float32")).astype(dtype)

    return te.compute(x.shape, normal, name="normal")


def _place(d: int, key: dict[int, Any], loops: dict[int, Any], size: int | None) -> Any:
    """Where an element along a dimension is: reduced over, kept, or a channel of a group."""
    if d not in key:
        return loops[d]
    return key[d] * size + loops[d] if d in loops else key[d]

"""Depthwise transposed convolution, as a kernel that gathers.

Every output element sums over the part of the kernel that its phase sees (see
:mod:`tvm_eff.passes.relax.transposed_convolution`). With the channels last, a vector of
them reads vectors of the input and of the weight; nothing is multiplied by zero, and
nothing rearranged behind.
"""

from __future__ import annotations

from functools import partial

from tvm import relax, te, topi

from tvm_eff.passes.relax.layouts import Layout, Values, channels_last
from tvm_eff.passes.relax.transposed_convolution import Dimension, dimensions_of, is_depthwise


def depthwise_transposed(values: Values, call: relax.Call) -> tuple[relax.Expr, Layout] | None:
    """Rewrite a depthwise transposed convolution for channels-last activations."""
    data, weight = call.args
    rank = len(data.ty.shape)
    if not is_depthwise(call):
        return None
    emit, dimensions = values.builder.emit, dimensions_of(call)
    # [channel][1][kernel] becomes [kernel][1][channel], whole strides of it.
    width = [n for d in dimensions for n in (0, d.taps * d.stride - d.kernel)]
    whole = emit(relax.op.nn.pad(values.plain(weight), [0, 0, 0, 0, *width]))
    last = emit(relax.op.permute_dims(whole, [*range(2, rank), 1, 0]))
    layout = channels_last(rank)
    apart = values.builder.call_te(
        partial(_kernel, dimensions),
        values.get(data, layout),
        last,
        primfunc_name_hint="depthwise_deconvolution",
    )
    grown = [d.count * d.stride for d in dimensions]
    batch, channels = int(data.ty.shape[0]), int(data.ty.shape[1])
    whole_rows = emit(relax.op.reshape(apart, (batch, *grown, channels)))
    begin = [d.begin for d in dimensions]
    end = [d.begin + d.outputs for d in dimensions]
    if (begin, end) == ([0] * len(begin), grown):
        return whole_rows, layout
    axes = list(range(1, rank - 1))
    return emit(relax.op.strided_slice(whole_rows, axes, begin, end)), layout


def _kernel(dimensions: list[Dimension], data: te.Tensor, weight: te.Tensor) -> te.Tensor:
    """Compute [batch][position, phase of each dimension][channel].

    Position and phase are axes of their own, and the output is cut to its size behind:
    TVM 0.27 takes (x % 12 + 1) // 2 for ((x + 1) // 2) % 6, which is wrong for x = 11.
    """
    before = [max(d.taps - 1 - d.first, 0) for d in dimensions]
    after = [max(d.after, 0) for d in dimensions]
    padded = topi.nn.pad(data, [0, *before, 0], [0, *after, 0], name="padded")
    taps = [te.reduce_axis((0, d.taps), name="tap") for d in dimensions]

    def element(batch: te.Var, *index: te.Var) -> te.Tensor:
        *places, channel = index
        inputs = [
            position + (d.first + skipped) - tap
            for position, d, tap, skipped in zip(places[::2], dimensions, taps, before, strict=True)
        ]
        kernel = [
            phase + tap * d.stride
            for phase, d, tap in zip(places[1::2], dimensions, taps, strict=True)
        ]
        product = padded(batch, *inputs, channel) * weight(*kernel, 0, channel)
        return te.sum(product, axis=taps)

    places = [extent for d in dimensions for extent in (d.count, d.stride)]
    shape = (data.shape[0], *places, data.shape[-1])
    return te.compute(shape, element, name="depthwise_deconvolution")

"""Depthwise transposed convolution as a gather.

Every output element sums over the kernel elements of its phase (see
:mod:`tvm_eff.passes.relax.transposed_convolution`). With channels last, a vector of outputs
reads vectors of the input and of the weight; there is no multiplication by zero, and no
rearrangement afterwards.
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
    # [channel][1][kernel] becomes [kernel][1][channel], padded to a multiple of the stride.
    width = [n for d in dimensions for n in (0, d.phase_kernel_size * d.stride - d.kernel)]
    padded_weight = emit(relax.op.nn.pad(values.plain(weight), [0, 0, 0, 0, *width]))
    last = emit(relax.op.permute_dims(padded_weight, [*range(2, rank), 1, 0]))
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

    Position and phase are separate axes, and the output is sliced to its size afterwards:
    TVM 0.27 simplifies (x % 12 + 1) // 2 to ((x + 1) // 2) % 6, which is wrong for x = 11.
    """
    before = [max(d.phase_kernel_size - 1 - d.first, 0) for d in dimensions]
    after = [max(d.after, 0) for d in dimensions]
    padded = topi.nn.pad(data, [0, *before, 0], [0, *after, 0], name="padded")
    kernel_axes = [te.reduce_axis((0, d.phase_kernel_size), name="tap") for d in dimensions]

    def element(batch: te.Var, *index: te.Var) -> te.Tensor:
        *spatial, channel = index
        inputs = [
            position + (d.first + skipped) - k
            for position, d, k, skipped in zip(
                spatial[::2], dimensions, kernel_axes, before, strict=True
            )
        ]
        kernel = [
            phase + k * d.stride
            for phase, d, k in zip(spatial[1::2], dimensions, kernel_axes, strict=True)
        ]
        product = padded(batch, *inputs, channel) * weight(*kernel, 0, channel)
        return te.sum(product, axis=kernel_axes)

    spatial = [extent for d in dimensions for extent in (d.count, d.stride)]
    shape = (data.shape[0], *spatial, data.shape[-1])
    return te.compute(shape, element, name="depthwise_deconvolution")

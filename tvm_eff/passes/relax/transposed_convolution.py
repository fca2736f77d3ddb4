"""Rewrite a transposed convolution as a convolution and a depth-to-space rearrangement.

With a stride of `s`, output positions fall into `s` phases per dimension, and those of one
phase read the same part of the kernel: an ordinary convolution. All phases together are one
convolution with `s` times the output channels per dimension, whose channels are then
rearranged to positions (Shi et al.: Is the deconvolution layer the same as a convolutional
layer?, 2016). No multiplication by an inserted zero remains; a kernel that is not a multiple
of the stride is padded. Depthwise ones are left to
:mod:`tvm_eff.passes.relax.depthwise_transposed`.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_eff.passes.relax._calls import name_of, shape_of

CONVOLUTIONS = {
    "relax.nn.conv1d_transpose": ("NCW", relax.op.nn.conv1d),
    "relax.nn.conv2d_transpose": ("NCHW", relax.op.nn.conv2d),
    "relax.nn.conv3d_transpose": ("NCDHW", relax.op.nn.conv3d),
}


@tvm.ir.transform.module_pass(opt_level=0, name="TransposedConvolution")
def rewrite_transposed_convolution(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite every transposed convolution of ``main``."""
    mod = mod.clone()
    mod["main"] = _Rewriter(mod).visit_expr(mod["main"])
    return mod


@dataclass(frozen=True)
class Dimension:
    """One spatial dimension.

    Attributes
    ----------
    size
        Elements of the input.
    kernel
        Elements of the dilated kernel.
    stride, padding, outputs
        As for the transposed convolution.
    """

    size: int
    kernel: int
    stride: int
    padding: int
    outputs: int

    @property
    def phase_kernel_size(self) -> int:
        """Kernel elements of one phase, rounded up."""
        return -(-self.kernel // self.stride)

    @property
    def first(self) -> int:
        """The input element, in strides, of the first output."""
        return self.padding // self.stride

    @property
    def count(self) -> int:
        """Positions of one phase that the output needs."""
        return -(-(self.outputs + self.padding) // self.stride) - self.first

    @property
    def begin(self) -> int:
        """Elements to slice off before the rearranged output."""
        return self.padding % self.stride

    @property
    def before(self) -> int:
        """Padding (if negative, cropping) before the input."""
        return self.phase_kernel_size - 1 - self.first

    @property
    def after(self) -> int:
        """Padding (if negative, cropping) after the input."""
        return self.count + self.phase_kernel_size - 1 - self.before - self.size


def dimensions_of(call: relax.Call) -> list[Dimension]:
    """Return the spatial dimensions of a transposed convolution, channels first."""
    data, weight = call.args
    shape, kernel, outputs = shape_of(data), shape_of(weight), shape_of(call)
    assert shape and kernel and outputs, "networks have fixed shapes"
    return [
        Dimension(
            size=shape[2 + i],
            kernel=(kernel[2 + i] - 1) * int(call.attrs.dilation[i]) + 1,
            stride=int(call.attrs.strides[i]),
            padding=int(call.attrs.padding[i]),
            outputs=outputs[2 + i],
        )
        for i in range(len(shape) - 2)
    ]


def is_depthwise(call: relax.Call) -> bool:
    """Whether it is depthwise without dilation."""
    weight = shape_of(call.args[1])
    dense = all(int(d) == 1 for d in call.attrs.dilation)
    return bool(weight and dense and weight[1] == 1 and weight[0] == int(call.attrs.groups) > 1)


@mutator
class _Rewriter(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        layout, convolution = CONVOLUTIONS.get(name_of(call), ("", None))
        if convolution is None or call.attrs.data_layout != layout or is_depthwise(call):
            return call
        data, weight = call.args
        kernel, outputs = shape_of(weight), shape_of(call)
        assert kernel is not None and outputs is not None, "networks have fixed shapes"
        dimensions, groups = dimensions_of(call), int(call.attrs.groups)
        dilation = [int(d) for d in call.attrs.dilation]
        phases = self._phases(self._dilated(weight, kernel, dilation), dimensions, groups)
        before = [d.before for d in dimensions]
        after = [d.after for d in dimensions]
        result = self.builder_.emit(
            convolution(
                self._cropped(data, before, after),
                phases,
                padding=[max(n, 0) for n in (*before, *after)],
                groups=groups,
            )
        )
        return self._interleaved(result, outputs, dimensions, groups)

    def _dilated(
        self, weight: relax.Expr, shape: tuple[int, ...], dilation: list[int]
    ) -> relax.Expr:
        """Dilate the kernel with zeros."""
        emit = self.builder_.emit
        for axis, step in enumerate(dilation, start=2):
            if step == 1:
                continue
            size = shape[axis]
            apart = emit(relax.op.reshape(weight, (*shape[: axis + 1], 1, *shape[axis + 1 :])))
            width = [0, 0] * (axis + 1) + [0, step - 1] + [0, 0] * (len(shape) - axis - 1)
            gaps = emit(relax.op.nn.pad(apart, width))
            shape = (*shape[:axis], size * step, *shape[axis + 1 :])
            weight = emit(relax.op.reshape(gaps, shape))
            weight = emit(relax.op.strided_slice(weight, [axis], [0], [(size - 1) * step + 1]))
            shape = (*shape[:axis], (size - 1) * step + 1, *shape[axis + 1 :])
        return weight

    def _phases(self, weight: relax.Expr, dimensions: list[Dimension], groups: int) -> relax.Expr:
        """Return the weight of the ordinary convolution, [group, phases, output channel]."""
        emit = self.builder_.emit
        shape = shape_of(weight)
        assert shape is not None, "weights have fixed shapes"
        inputs, outputs = shape[0] // groups, shape[1]
        width = [0, 0, 0, 0]
        split: list[int] = []
        for each in dimensions:
            width += [0, each.phase_kernel_size * each.stride - each.kernel]
            split += [each.phase_kernel_size, each.stride]
        weight = emit(relax.op.nn.pad(weight, width))
        weight = emit(relax.op.reshape(weight, (groups, inputs, outputs, *split)))
        kernel_axes = [3 + 2 * i for i in range(len(dimensions))]
        for axis in kernel_axes:
            weight = emit(relax.op.flip(weight, axis))
        phases = [axis + 1 for axis in kernel_axes]
        weight = emit(relax.op.permute_dims(weight, [0, *phases, 2, 1, *kernel_axes]))
        channels = groups * outputs
        for each in dimensions:
            channels *= each.stride
        return emit(
            relax.op.reshape(weight, (channels, inputs, *[d.phase_kernel_size for d in dimensions]))
        )

    def _cropped(self, data: relax.Expr, before: list[int], after: list[int]) -> relax.Expr:
        """Crop what no output reads: negative padding."""
        shape = shape_of(data)
        assert shape is not None, "weights and inputs have fixed shapes"
        cut = [i for i in range(len(before)) if before[i] < 0 or after[i] < 0]
        if not cut:
            return data
        begin = [max(-before[i], 0) for i in cut]
        end = [shape[2 + i] - max(-after[i], 0) for i in cut]
        axes = [2 + i for i in cut]
        return self.builder_.emit(relax.op.strided_slice(data, axes, begin, end))

    def _interleaved(
        self,
        result: relax.Expr,
        outputs: tuple[int, ...],
        dimensions: list[Dimension],
        groups: int,
    ) -> relax.Expr:
        """Rearrange the phases to positions, and slice the output to its size."""
        emit = self.builder_.emit
        strides = [d.stride for d in dimensions]
        if all(stride == 1 for stride in strides):
            return result
        count = len(dimensions)
        batch, channels = outputs[:2]
        sizes = [d.count for d in dimensions]
        apart = (batch, groups, *strides, channels // groups, *sizes)
        result = emit(relax.op.reshape(result, apart))
        pairs = [axis for i in range(count) for axis in (3 + count + i, 2 + i)]
        result = emit(relax.op.permute_dims(result, [0, 1, 2 + count, *pairs]))
        grown = [size * stride for size, stride in zip(sizes, strides, strict=True)]
        result = emit(relax.op.reshape(result, (batch, channels, *grown)))
        begin = [d.begin for d in dimensions]
        end = [d.begin + d.outputs for d in dimensions]
        if begin == [0] * count and end == grown:
            return result
        return relax.op.strided_slice(result, list(range(2, 2 + count)), begin, end)

"""Layout rules: how each operator is rewritten for inputs in another layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import relax

from tvm_eff.passes.relax import reshaping
from tvm_eff.passes.relax._calls import integers, name_of, rebuild_call, shape_of
from tvm_eff.passes.relax.depthwise_transposed import depthwise_transposed
from tvm_eff.passes.relax.layouts import Layout, Values, channels_last, is_plain, plain

Result = tuple[relax.Expr, Layout]
Rule = Callable[[Values, relax.Call], "Result | None"]

_SPATIAL = {3: "W", 4: "HW", 5: "DHW"}


def tensor_of(values: Values, value: relax.Expr) -> Result:
    """Return an expression that computes `value`, and its layout."""
    shape = shape_of(value)
    if isinstance(value, relax.Call):
        rule = RULES.get(name_of(value))
        found = rule(values, value) if rule is not None else None
        if found is not None:
            return found
        value = rebuild_call(value, [_argument(values, arg) for arg in value.args])
    return value, plain(len(shape or ()))


def tuple_of(values: Values, value: relax.Expr) -> tuple[relax.Expr, Layout | None]:
    """Return an expression that computes a tuple, and its tensors' layout."""
    if name_of(value) == "relax.split":
        data = value.args[0]
        layout = _layout_to_follow(values, [data], shape_of(data))
        if layout is not None:
            axis = _stored_axis(layout, value.attrs.axis)
            return rebuild_call(value, [values.get(data, layout)], axis=axis), layout
    if isinstance(value, relax.Call):
        value = rebuild_call(value, [_argument(values, arg) for arg in value.args])
    elif isinstance(value, (relax.Tuple, relax.Var)):
        value = values.plain(value)
    return value, None


def permuted(values: Values, call: relax.Call) -> dict[Layout, relax.Expr]:
    """Return a permutation in the layouts of its input, without moving data if possible."""
    data = call.args[0]
    rank = len(call.ty.shape)
    axes = _axes(call.attrs.axes, rank) if call.attrs.axes else list(reversed(range(rank)))
    found = {
        Layout(tuple(axes.index(d) for d in layout.order)): stored
        for layout, stored in values.all(data).items()
        if layout.factors is None
    }
    if found:
        return found
    stored = values.builder.emit(rebuild_call(call, [values.plain(data)]))
    return {plain(rank): stored}


def _argument(values: Values, arg: relax.Expr) -> relax.Expr:
    is_value = isinstance(arg, (relax.Var, relax.Tuple)) and is_tensor_or_tuple(arg)
    return values.plain(arg) if is_value else arg


def is_tensor_or_tuple(arg: relax.Expr) -> bool:
    """Whether `arg` is a tensor, or a tuple that may hold tensors."""
    return isinstance(arg, relax.Tuple) or isinstance(arg.ty, (relax.TensorType, relax.TupleType))


def _axes(axes: Sequence[int], rank: int) -> list[int]:
    return [int(a) % rank for a in axes]


def _stored_axis(layout: Layout, axis: int) -> int:
    return layout.order.index(int(axis) % len(layout.order))


def _layout_to_follow(
    values: Values, operands: Sequence[relax.Expr], shape: tuple[int, ...] | None
) -> Layout | None:
    """Return the layout of the first operand that is not stored in logical order."""
    own = None
    for operand in operands:
        its = shape_of(operand)
        if its is None or shape is None or len(its) != len(shape):
            continue
        layout = values.preferred(operand)
        if not is_plain(layout, its) and (layout.factors is None or its == shape):
            return layout
        if its == shape and layout != plain(len(shape)):
            # A single position: in logical order and channels-last at once.
            own = own or layout
    return own


def _window(values: Values, call: relax.Call) -> Result | None:
    """Pooling and resizing: channels-last."""
    data, *rest = call.args
    layout = channels_last(len(data.ty.shape))
    spatial = _SPATIAL[len(data.ty.shape)]
    if call.attrs.layout != f"NC{spatial}":
        return None
    stored = f"N{spatial}C"
    out = {"out_layout": stored} if hasattr(call.attrs, "out_layout") else {}
    return rebuild_call(call, [values.get(data, layout), *rest], layout=stored, **out), layout


def _adaptive_pooling(values: Values, call: relax.Call) -> Result | None:
    """Adaptive pooling: ordinary pooling where the windows have equal sizes."""
    data = call.args[0]
    shape, outputs = shape_of(data), shape_of(call)
    rank = len(shape or ())
    if shape is None or outputs is None or call.attrs.layout != f"NC{_SPATIAL[rank]}":
        return None
    sizes = list(zip(shape[2:], outputs[2:], strict=True))
    if any(size % parts for size, parts in sizes):
        return _window(values, call)
    layout = channels_last(rank)
    part = [size // parts for size, parts in sizes]
    pool = (relax.op.nn.avg_pool1d, relax.op.nn.avg_pool2d, relax.op.nn.avg_pool3d)[rank - 3]
    none = [0] * (2 * len(part))
    stored = pool(values.get(data, layout), part, part, none, layout=f"N{_SPATIAL[rank]}C")
    return stored, layout


def _convolution(values: Values, call: relax.Call) -> Result | None:
    """Convolution: channels-last, in the weight too."""
    data, weight = call.args
    rank = len(data.ty.shape)
    layout, spatial = channels_last(rank), _SPATIAL[rank]
    if call.attrs.data_layout != f"NC{spatial}" or call.attrs.kernel_layout != f"OI{spatial}":
        return None
    stored = rebuild_call(
        call,
        [values.get(data, layout), values.get(weight, layout)],
        data_layout=f"N{spatial}C",
        kernel_layout=f"O{spatial}I",
        out_layout=f"N{spatial}C",
    )
    return stored, layout


def _elementwise(values: Values, call: relax.Call) -> Result | None:
    """Elementwise operators, with broadcasting."""
    shape = shape_of(call)
    layout = _layout_to_follow(values, call.args, shape)
    if layout is None or shape is None:
        return None
    operands = []
    for operand in call.args:
        own = shape_of(operand)
        if own is None or len(own) > len(shape):
            operands.append(operand)
            continue
        operands.append(_broadcastable(values, operand, own, shape, layout))
    return rebuild_call(call, operands), layout


def _broadcastable(
    values: Values,
    operand: relax.Expr,
    own: tuple[int, ...],
    shape: tuple[int, ...],
    layout: Layout,
) -> relax.Expr:
    """Return an operand in a layout in which it broadcasts."""
    if all(n == 1 for n in own):
        return values.plain(operand)
    if layout.factors is not None and own[-1] == 1:
        return values.plain(operand)
    if len(own) == len(shape):
        return values.get(operand, layout)
    aligned = (1,) * (len(shape) - len(own)) + own
    raised = values.builder.emit(relax.op.reshape(values.plain(operand), aligned))
    return values.get(raised, layout)


def _along_axis(values: Values, call: relax.Call) -> Result | None:
    """Shape-preserving operators along one axis, the attribute ``axis``."""
    data, *rest = call.args
    layout = _unflattened(values, data)
    if layout is None:
        return None
    axis = _stored_axis(layout, call.attrs.axis)
    others = [_argument(values, arg) for arg in rest]
    return rebuild_call(call, [values.get(data, layout), *others], axis=axis), layout


def _normalization(values: Values, call: relax.Call) -> Result | None:
    """Group and instance norm, with one weight per channel; layer norm over one axis."""
    data, *rest = call.args
    layout = _unflattened(values, data)
    axes = [int(a) for a in call.attrs.axes]
    of_channels = hasattr(call.attrs, "channel_axis")
    if layout is None or (not of_channels and len(axes) != 1):
        return None
    changed: dict[str, object] = {"axes": sorted(_stored_axis(layout, a) for a in axes)}
    if of_channels:
        changed["channel_axis"] = _stored_axis(layout, call.attrs.channel_axis)
    others = [_argument(values, arg) for arg in rest]
    return rebuild_call(call, [values.get(data, layout), *others], **changed), layout


def _concat(values: Values, call: relax.Call) -> Result | None:
    fields = call.args[0]
    if not isinstance(fields, relax.Tuple):
        return None
    layout = next(
        (found for f in fields.fields if (found := _unflattened(values, f)) is not None), None
    )
    if layout is None:
        return None
    stored = relax.Tuple([values.get(f, layout) for f in fields.fields])
    return rebuild_call(call, [stored], axis=_stored_axis(layout, call.attrs.axis)), layout


def _strided_slice(values: Values, call: relax.Call) -> Result | None:
    data, axes, *rest = call.args
    layout = _unflattened(values, data)
    if layout is None or not isinstance(axes, relax.Tuple):
        return None
    stored_axes = [_stored_axis(layout, a) for a in integers(axes)]
    bounds = [integers(each) for each in rest]
    stored = values.get(data, layout)
    inbound = bool(call.attrs.assume_inbound)
    return relax.op.strided_slice(stored, stored_axes, *bounds, assume_inbound=inbound), layout


def _take(values: Values, call: relax.Call) -> Result | None:
    """Indexing along one axis, as in reflection padding."""
    data, index = call.args
    layout = _unflattened(values, data)
    if layout is None or call.attrs.axis is None or len(shape_of(index) or ()) != 1:
        return None
    chosen = values.plain(index)
    if index.ty.dtype == "int64":
        chosen = values.builder.emit(relax.op.astype(chosen, "int32"))
    axis = _stored_axis(layout, call.attrs.axis)
    return rebuild_call(call, [values.get(data, layout), chosen], axis=axis), layout


def _pad(values: Values, call: relax.Call) -> Result | None:
    layout = _unflattened(values, call.args[0])
    if layout is None:
        return None
    width = [int(n) for n in call.attrs.pad_width]
    stored = [n for d in layout.order for n in width[2 * d : 2 * d + 2]]
    return rebuild_call(call, [values.get(call.args[0], layout)], pad_width=stored), layout


def _reduction(values: Values, call: relax.Call) -> Result | None:
    """Reductions over some axes."""
    data = call.args[0]
    layout = _unflattened(values, data)
    if layout is None or call.attrs.axis is None:
        return None
    rank = len(layout.order)
    axis = call.attrs.axis
    single = isinstance(axis, int)
    reduced = [int(axis) % rank] if single else _axes(axis, rank)
    stored_axes = sorted(layout.order.index(a) for a in reduced)
    stored = values.get(data, layout)
    result = rebuild_call(call, [stored], axis=stored_axes[0] if single else stored_axes)
    if call.attrs.keepdims:
        return result, layout
    kept = [d for d in range(rank) if d not in reduced]
    return result, Layout(tuple(kept.index(d) for d in layout.order if d in kept))


def _matmul(values: Values, call: relax.Call) -> Result | None:
    """A dense layer after a flatten: the rows of its weight are permuted to the stored order."""
    data, weight = call.args
    layout = values.preferred(data)
    shape = shape_of(weight)
    if layout.factors is None or shape is None or len(shape) != 2:
        return None
    emit, outputs = values.builder.emit, shape[1]
    inner = layout.factors[1:]
    apart = emit(relax.op.reshape(values.plain(weight), (*inner, outputs)))
    order = [d - 1 for d in layout.order[1:]]
    turned = emit(relax.op.permute_dims(apart, [*order, len(inner)]))
    return rebuild_call(
        call, [values.get(data, layout), emit(relax.op.reshape(turned, shape))]
    ), plain(2)


def _unflattened(values: Values, data: relax.Expr) -> Layout | None:
    layout = _layout_to_follow(values, [data], shape_of(data))
    return None if layout is None or layout.factors is not None else layout


_ARITHMETIC = (
    *("add", "subtract", "multiply", "divide", "floor_divide", "mod", "floor_mod", "power"),
    *("maximum", "minimum", "negative", "abs", "sign", "square", "sqrt", "rsqrt", "ewise_fma"),
    *("exp", "log", "log_add_exp", "erf", "ceil", "floor", "round", "trunc", "clip", "astype"),
    *("sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "asinh", "acosh"),
    *("atanh", "atan2", "sigmoid", "left_shift", "right_shift"),
)
_LOGIC = (
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "where"),
    *("isnan", "isinf", "isfinite", "logical_and", "logical_or", "logical_xor", "logical_not"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"),
)
_ACTIVATIONS = (
    *("nn.relu", "nn.relu6", "nn.leakyrelu", "nn.selu", "nn.gelu", "nn.gelu_tanh", "nn.silu"),
    *("nn.softplus", "nn.dropout"),
)

_GROUPS: dict[Rule, list[str]] = {
    _elementwise: [*_ARITHMETIC, *_LOGIC, *_ACTIVATIONS],
    depthwise_transposed: [f"nn.conv{n}d_transpose" for n in (1, 2, 3)],
    _convolution: ["nn.conv1d", "nn.conv2d", "nn.conv3d"],
    _window: [
        "image.resize2d",
        *(f"nn.{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)),
    ],
    _adaptive_pooling: [f"nn.adaptive_avg_pool{n}d" for n in (1, 2, 3)],
    _along_axis: ["nn.softmax", "nn.log_softmax", "nn.prelu", "flip", "cumsum", "cumprod"],
    _normalization: ["nn.group_norm", "nn.instance_norm", "nn.layer_norm"],
    _concat: ["concat"],
    _strided_slice: ["strided_slice"],
    _take: ["take"],
    _pad: ["nn.pad"],
    _reduction: ["mean", "sum", "max", "min", "prod", "variance", "std", "argmax", "argmin"],
    _matmul: ["matmul"],
    reshaping.reshaped: ["reshape", "squeeze", "expand_dims", "flatten", "nn.batch_flatten"],
}

RULES: dict[str, Rule] = {
    f"relax.{name}": rule for rule, names in _GROUPS.items() for name in names
}
"""The operators that follow their input's layout, or require one."""

"""Reshapes of a tensor in another layout, without converting it to logical order first."""

from __future__ import annotations

from tvm import relax

from tvm_eff.passes.relax._calls import shape_of
from tvm_eff.passes.relax.layouts import Layout, Shape, Values, is_plain, plain

Group = tuple[list[int], list[int]]


def reshaped(values: Values, call: relax.Call) -> tuple[relax.Expr, Layout] | None:
    """Rewrite a reshape, squeeze, expand_dims or flatten.

    Dimensions that are only split or merged keep their position in the layout; dimensions
    to be merged that are not adjacent are permuted first. Flattened rows keep their stored
    order, for a dense layer whose weight can be permuted instead.
    """
    data = call.args[0]
    shape, wanted = shape_of(data), shape_of(call)
    if shape is None or wanted is None:
        return None
    layout = values.preferred(data)
    if layout.factors is not None:
        return _reshape(values, values.plain(data), wanted), plain(len(wanted))
    if is_plain(layout, shape):
        stored = values.get(data, layout)
        return _reshape(values, stored, wanted), plain(len(wanted))
    if _flattens_rows(layout, shape, wanted):
        return _reshape(values, values.get(data, layout), wanted), Layout(layout.order, shape)
    return _regrouped(values, data, layout, _groups(shape, wanted), wanted)


def _reshape(values: Values, stored: relax.Expr, shape: Shape) -> relax.Expr:
    return relax.op.reshape(stored, shape)


def _flattens_rows(layout: Layout, shape: Shape, wanted: Shape) -> bool:
    return len(wanted) == 2 and wanted[0] == shape[0] and layout.order[0] == 0


def _groups(shape: Shape, wanted: Shape) -> list[Group]:
    """Return the smallest groups of input and output dimensions with equal products."""
    sources = [d for d, n in enumerate(shape) if n != 1]
    targets = [d for d, n in enumerate(wanted) if n != 1]
    groups: list[Group] = []
    while sources:
        left, right = [sources.pop(0)], [targets.pop(0)]
        a, b = shape[left[0]], wanted[right[0]]
        while a != b:
            if a < b:
                left.append(sources.pop(0))
                a *= shape[left[-1]]
            else:
                right.append(targets.pop(0))
                b *= wanted[right[-1]]
        groups.append((left, right))
    return groups


def _regrouped(
    values: Values, data: relax.Expr, layout: Layout, groups: list[Group], wanted: Shape
) -> tuple[relax.Expr, Layout]:
    group_of = {d: number for number, (left, _) in enumerate(groups) for d in left}
    significant = [d for d in layout.order if d in group_of]
    # A group is positioned where the innermost of its dimensions is stored.
    positions = {group_of[d]: position for position, d in enumerate(significant)}
    arranged = sorted(positions, key=lambda number: positions[number])
    joined = [d for number in arranged for d in groups[number][0]]
    if joined != significant:
        unit = [d for d in layout.order if d not in group_of]
        layout = Layout((*unit, *joined))
    order = _with_unit([d for number in arranged for d in groups[number][1]], wanted)
    stored = values.get(data, layout)
    return relax.op.reshape(stored, tuple(wanted[d] for d in order)), Layout(order)


def _with_unit(order: list[int], shape: Shape) -> tuple[int, ...]:
    """Insert dimensions of extent one after the dimension that precedes them logically."""
    whole = list(order)
    for dimension, extent in enumerate(shape):
        if extent == 1:
            position = whole.index(dimension - 1) + 1 if dimension else 0
            whole.insert(position, dimension)
    return tuple(whole)

"""A convolution of bytes rewritten as Winograd's minimal filtering in integers.

As :mod:`tvm_eff.schedules.winograd.rewrite`, with transformed values of 16 bits and sums of 32. See
:mod:`tvm_eff.schedules.winograd.integers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx
from tvm.tirx import PrimFunc

from tvm_eff.schedules.winograd import rewrite as algorithm
from tvm_eff.schedules.winograd.integers import (
    DIVISOR,
    FILTERING,
    input_rows,
    output_rows,
    parts_of,
    weight_matrix,
)
from tvm_eff.schedules.winograd.match import Convolution
from tvm_eff.schedules.winograd.rewrite import choose, padded_source

QUOTIENT = "winograd_quotient"
"""The name of the block that divides results, between those of the output and the result."""

_SIZE, _TILE = FILTERING.size, FILTERING.tile


def rewrite(func: PrimFunc, work: Convolution) -> PrimFunc:
    """Return an equivalent function that takes the transformed weight, of int16."""
    return algorithm.replace_convolution(func, work, _stages(work))


def weight_function(work: Convolution) -> PrimFunc:
    """Return the PrimFunc that transforms weights [output channel, row, column, input channel]."""
    outer, kernel, depth = int(work.result.shape[3]), work.kernel, work.depth
    weight = te.placeholder((outer, kernel, kernel, depth), work.dtype, name="weight")
    matrix = weight_matrix()

    def row(o: Any, i: Any, x: Any, q: Any) -> Any:
        def element(y: int) -> Any:
            return weight[o, y, x, q].astype("int32")

        return choose(i, [_sum(matrix[k], element) for k in range(_SIZE)])

    rows = te.compute((outer, _SIZE, kernel, depth), row, name="winograd_weight_rows")

    def both(o: Any, i: Any, j: Any, q: Any) -> Any:
        sums = [_sum(matrix[k], lambda x: rows[o, i, x, q]) for k in range(_SIZE)]
        return choose(j, sums).astype("int16")

    result = te.compute((outer, _SIZE, _SIZE, depth), both, name="winograd_weight")
    return te.create_prim_func([weight, result]).without_attr("global_symbol")


def _stages(work: Convolution) -> list[te.Tensor]:
    """Source, transformed weight and result of the algorithm in tensor expressions."""
    batch, out_height, out_width, channels = (int(n) for n in work.result.shape)
    down, across = -(-out_height // _TILE), -(-out_width // _TILE)
    source = te.placeholder([int(n) for n in work.source.shape], work.dtype, name="source")
    weight = te.placeholder(
        (channels, _SIZE, _SIZE, work.depth), "int16", name="transformed_weight"
    )
    transformed = _transformed_input(work, source, (batch, down, across))
    parts = parts_of(work.depth)
    assert parts is not None, "the workload was matched when the candidate was made"
    within = work.depth // parts
    depth = te.reduce_axis((0, within), name="depth")

    def product_at(g: Any, i: Any, j: Any, p: Any, f: Any) -> Any:
        q = g * within + depth
        factors = transformed[i, j, p, q].astype("int32"), weight[f, i, j, q].astype("int32")
        return te.sum(factors[0] * factors[1], axis=depth)

    tiles = batch * down * across
    product = te.compute((parts, _SIZE, _SIZE, tiles, channels), product_at, name=algorithm.PRODUCT)
    back = output_rows()

    def columns_at(g: Any, r: Any, j: Any, n: Any, y: Any, x: Any, f: Any) -> Any:
        p = (n * down + y) * across + x
        return choose(r, [row(lambda i: product[g, i, j, p, f]) for row in back])

    shape: tuple[int, ...] = (parts, _TILE, _SIZE, batch, down, across, channels)
    columns = te.compute(shape, columns_at, name=algorithm.COLUMNS)

    def output_at(n: Any, y: Any, x: Any, r: Any, s: Any, f: Any) -> Any:
        def part(g: int) -> Any:
            return choose(s, [row(lambda j: columns[g, r, j, n, y, x, f]) for row in back])

        return sum(map(part, range(1, parts)), part(0))

    shape = (batch, down, across, _TILE, _TILE, channels)
    output = te.compute(shape, output_at, name=algorithm.OUTPUT)
    quotient = te.compute(shape, lambda *index: output[index] // DIVISOR, name=QUOTIENT)
    result = te.compute(
        (batch, out_height, out_width, channels),
        lambda n, y, x, f: quotient[n, y // _TILE, x // _TILE, y % _TILE, x % _TILE, f],
        name=algorithm.RESULT,
    )
    return [source, weight, result]


def _transformed_input(
    work: Convolution, source: te.Tensor, tiles: tuple[int, int, int]
) -> te.Tensor:
    """The transformed input, [row, column, tile, channel], of images, tiles down and across."""
    batch, down, across = tiles
    rows_columns = (down * _TILE + work.kernel - 1, across * _TILE + work.kernel - 1)
    padded = padded_source(work, source, rows_columns)
    combine = input_rows(_wide)

    def rows_at(i: Any, j: Any, n: Any, y: Any, x: Any, q: Any) -> Any:
        def element(k: int) -> Any:
            return padded[n, y * _TILE + k, x * _TILE + j, q]

        return choose(i, [f(element) for f in combine])

    rows = te.compute((_SIZE, _SIZE, batch, down, across, work.depth), rows_at, name=algorithm.ROWS)

    def input_at(i: Any, j: Any, p: Any, q: Any) -> Any:
        n, y, x = p // (down * across), p // across % down, p % across
        return choose(j, [f(lambda k: rows[i, k, n, y, x, q]) for f in combine])

    shape = (_SIZE, _SIZE, batch * down * across, work.depth)
    return te.compute(shape, input_at, name=algorithm.INPUT)


def _wide(value: Any) -> Any:
    return tirx.const(value, "int16") if isinstance(value, int) else value.astype("int16")


def _sum(coefficients: Sequence[int], element: Any) -> Any:
    terms = [element(k) * int(c) for k, c in enumerate(coefficients) if c]
    return sum(terms[1:], terms[0])

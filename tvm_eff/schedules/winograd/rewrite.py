"""A convolution rewritten as Winograd's minimal filtering.

Tiles of m x m outputs of an r x r kernel are computed from tiles of (m + r - 1) x
(m + r - 1) inputs: both factors are transformed, multiplied elementwise and summed over
the input channels, and the products are transformed back: (m + r - 1)^2 multiplications
instead of r^2 m^2. See :mod:`tvm_eff.schedules.winograd.transforms`, also for strides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from tvm import relax, te, tirx
from tvm.tirx import PrimFunc

from tvm_eff.schedules.winograd.match import Convolution
from tvm_eff.schedules.winograd.transforms import input_rows, output_rows, weight_matrix

PADDED, ROWS, INPUT, PRODUCT, COLUMNS, OUTPUT, RESULT = (
    "winograd_padded",
    "winograd_input_rows",
    "winograd_input",
    "winograd_product",
    "winograd_output_columns",
    "winograd_output",
    "winograd_result",
)
"""Names of the blocks, in program order."""


SHORT_DEPTH = 32
"""Input channels up to which products of float16 are added as they are, in their transform."""


class ReplacedConvolution(Protocol):
    """A convolution that another algorithm replaces: see :class:`Convolution`."""

    @property
    def block(self) -> str:
        """The name of the contraction block."""

    @property
    def source(self) -> Any:
        """The buffer before padding."""

    @property
    def result(self) -> Any:
        """The buffer of the sums."""

    @property
    def weight_parameter(self) -> int:
        """Index of the weight parameter."""

    @property
    def padding_block(self) -> str | None:
        """The name of the block that pads, if there is one."""


def rewrite(func: PrimFunc, work: Convolution, tile: int) -> PrimFunc:
    """Return an equivalent function that takes the transformed weight.

    Parameters
    ----------
    func
        The function.
    work
        Its convolution.
    tile
        The size of an output tile.
    """
    return replace_convolution(func, work, _stages(work, tile))


def replace_convolution(
    func: PrimFunc, work: ReplacedConvolution, stages: list[te.Tensor]
) -> PrimFunc:
    """Return `func` with its convolution computed by another algorithm.

    Parameters
    ----------
    func
        The function.
    work
        Its convolution.
    stages
        Source, transformed weight and result of the algorithm, as tensor expressions.
    """
    rewritten = te.create_prim_func(stages)
    dropped = {work.block, work.padding_block}
    epilogue = [part for part in _parts(func) if str(_block_of(part).name_hint) not in dropped]
    if not epilogue:
        return _reordered(rewritten, func, work)
    rest = _epilogue_function(func, work, epilogue)
    return _fused(rewritten, rest, func, work)


def _reordered(rewritten: PrimFunc, func: PrimFunc, work: ReplacedConvolution) -> PrimFunc:
    """Reorder the parameters of a function without an epilogue as in `func`."""
    source, weight, result = rewritten.params
    order = [
        weight if i == work.weight_parameter else source if p.same_as(work.source) else result
        for i, p in enumerate(func.params)
    ]
    return PrimFunc(order, rewritten.body, rewritten.ret_type, attrs=func.attrs)


def _epilogue_function(func: PrimFunc, work: ReplacedConvolution, parts: list[Any]) -> PrimFunc:
    """The epilogue of `func` as a function, with the convolution's result as first parameter."""
    written = [_block_of(part).writes[0].source for part in parts]
    buffers = [b for b in func.body.block.alloc_buffers if any(b.same_as(w) for w in written)]
    root = _root_with(func.body, tirx.SeqStmt(parts) if len(parts) > 1 else parts[0], buffers)
    weight = func.params[work.weight_parameter]
    parameters = [work.result, *(p for p in func.params if not p.same_as(weight))]
    return PrimFunc(parameters, root, func.ret_type).with_attr("tirx.noalias", True)


def _fused(
    rewritten: PrimFunc, rest: PrimFunc, func: PrimFunc, work: ReplacedConvolution
) -> PrimFunc:
    """Fuse both into one function with FuseTIR."""
    *inputs, output = func.params
    builder = relax.BlockBuilder()
    first, second = builder.add_func(rewritten, "first"), builder.add_func(rest, "second")
    kinds = [rewritten.params[1] if i == work.weight_parameter else p for i, p in enumerate(inputs)]
    taken = [relax.Var(f"p{i}", _tensor(p)) for i, p in enumerate(kinds)]
    source = next(v for v, p in zip(taken, inputs, strict=True) if p.same_as(work.source))
    weight = taken[work.weight_parameter]
    others = [v for v in taken if v is not weight]
    with builder.function("fused", taken, attrs={"Primitive": True}):
        with builder.dataflow():
            sums = builder.emit(relax.call_tir(first, [source, weight], _tensor(work.result)))
            last = relax.call_tir(second, [sums, *others], _tensor(output))
            out = builder.emit_output(last)
        builder.emit_func_output(out)
    given = [relax.Var(f"g{i}", _tensor(p)) for i, p in enumerate(kinds)]
    with builder.function("main", given):
        with builder.dataflow():
            out = builder.emit_output(relax.Call(builder.get().get_global_var("fused"), given))
        builder.emit_func_output(out)
    mod = relax.transform.FuseTIR()(builder.get())
    # Relax shapes are 64-bit.
    fused = tirx.transform.ForceNarrowIndexToInt32()(mod)["fused"]
    return PrimFunc(fused.params, fused.body, fused.ret_type, attrs=func.attrs)


def _tensor(buffer: Any) -> relax.TensorType:
    return relax.TensorType([int(n) for n in buffer.shape], str(buffer.dtype))


def weight_function(work: Convolution, tile: int) -> PrimFunc:
    """Return the PrimFunc that transforms weights [output channel, row, column, input channel].

    It computes in float32, and rounds once to the dtype of the weight.
    """
    inner, outer = int(work.source.shape[3]), int(work.result.shape[3])
    kernel, stride, dtype = work.kernel, work.stride, work.dtype
    filtering = work.filtering(tile)
    size, kernel_size = filtering.size, filtering.kernel_size
    weight = te.placeholder((outer, kernel, kernel, inner), dtype, name="weight")
    matrix = weight_matrix(filtering)

    def part(o: Any, y: Any, x: Any, q: Any) -> Any:
        if stride == 1:
            return _wide(weight[o, y, x, q])
        row, column = stride * y + q // (stride * inner), stride * x + q // inner % stride
        inside = tirx.all(row < kernel, column < kernel)
        element = _wide(weight[o, row, column, q % inner])
        return tirx.if_then_else(inside, element, tirx.const(0, "float32"))

    def row(o: Any, i: Any, x: Any, q: Any) -> Any:
        return choose(i, [_sum(matrix[k], lambda y: part(o, y, x, q)) for k in range(size)])

    rows = te.compute((outer, size, kernel_size, work.depth), row, name="winograd_weight_rows")

    def both(o: Any, i: Any, j: Any, q: Any) -> Any:
        sums = [_sum(matrix[k], lambda x: rows[o, i, x, q]) for k in range(size)]
        return choose(j, sums).astype(dtype)

    result = te.compute((outer, size, size, work.depth), both, name="winograd_weight")
    return te.create_prim_func([weight, result]).without_attr("global_symbol")


def columns_dtype(work: Convolution) -> str:
    """Return the dtype that the columns of products are transformed back in; rows in float32.

    Where sums are short, to widen each product first takes as long as a tenth of the sums.
    """
    return work.dtype if work.depth <= SHORT_DEPTH else "float32"


def _stages(work: Convolution, tile: int) -> list[te.Tensor]:
    """Source, transformed weight and result of the algorithm in tensor expressions."""
    batch, out_height, out_width, channels = (int(n) for n in work.result.shape)
    dtype = str(work.source.dtype)
    filtering = work.filtering(tile)
    size, row_depth = filtering.size, work.stride * int(work.source.shape[3])
    sums = columns_dtype(work)
    down, across = -(-out_height // tile), -(-out_width // tile)
    tiles = batch * down * across
    source = te.placeholder([int(n) for n in work.source.shape], dtype, name="source")
    weight = te.placeholder((channels, size, size, work.depth), dtype, name="transformed_weight")
    padded = padded_source(
        work,
        source,
        (down * tile + filtering.kernel_size - 1, across * tile + filtering.kernel_size - 1),
    )
    combine = input_rows(filtering, partial(tirx.const, dtype=dtype))

    def rows_at(i: Any, j: Any, n: Any, y: Any, x: Any, q: Any) -> Any:
        def element(k: int) -> Any:
            row, column = y * tile + k, x * tile + j
            if work.stride == 1:
                return padded[n, row, column, q]
            return padded[n, row, column, q // row_depth, q % row_depth]

        return choose(i, [f(element) for f in combine])

    rows = te.compute((size, size, batch, down, across, work.depth), rows_at, name=ROWS)

    def input_at(i: Any, j: Any, p: Any, q: Any) -> Any:
        n, y, x = p // (down * across), p // across % down, p % across
        return choose(j, [f(lambda k: rows[i, k, n, y, x, q]) for f in combine])

    transformed = te.compute((size, size, tiles, work.depth), input_at, name=INPUT)
    depth = te.reduce_axis((0, work.depth), name="depth")
    product = te.compute(
        (size, size, tiles, channels),
        lambda i, j, p, f: te.sum(
            _wide(transformed[i, j, p, depth]) * _wide(weight[f, i, j, depth]), axis=depth
        ),
        name=PRODUCT,
    )
    back = output_rows(filtering)

    def columns_at(r: Any, j: Any, n: Any, y: Any, x: Any, f: Any) -> Any:
        p = (n * down + y) * across + x
        return choose(r, [g(lambda i: product[i, j, p, f].astype(sums)) for g in back])

    columns = te.compute((tile, size, batch, down, across, channels), columns_at, name=COLUMNS)

    def output_at(n: Any, y: Any, x: Any, r: Any, s: Any, f: Any) -> Any:
        return choose(s, [g(lambda j: _wide(columns[r, j, n, y, x, f])) for g in back])

    output = te.compute((batch, down, across, tile, tile, channels), output_at, name=OUTPUT)
    result = te.compute(
        (batch, out_height, out_width, channels),
        lambda n, y, x, f: output[n, y // tile, x // tile, y % tile, x % tile, f],
        name=RESULT,
    )
    return [source, weight, result]


def padded_source(work: Convolution, source: te.Tensor, rows_columns: tuple[int, int]) -> te.Tensor:
    """Return the padded source: [batch, row, column, channel].

    With a stride: [batch, row, column, row in stride, column in stride x channel].
    """
    batch, height, width, inner = (int(n) for n in work.source.shape)
    stride, (top, left) = work.stride, work.padding

    def at(n: Any, y: Any, x: Any, c: Any) -> Any:
        inside = tirx.all(y >= top, y < top + height, x >= left, x < left + width)
        border = tirx.const(work.padding_value, str(work.source.dtype))
        return tirx.if_then_else(inside, source[n, y - top, x - left, c], border)

    if stride == 1:
        return te.compute((batch, *rows_columns, inner), at, name=PADDED)
    return te.compute(
        (batch, *rows_columns, stride, stride * inner),
        lambda n, y, x, r, q: at(n, stride * y + r, stride * x + q // inner, q % inner),
        name=PADDED,
    )


def _sum(coefficients: Sequence[float], element: Callable[[int], Any]) -> Any:
    terms = [element(k) * float(c) for k, c in enumerate(coefficients) if c]
    return sum(terms[1:], terms[0])


def _wide(value: Any) -> Any:
    return value.astype("float32")


def choose(index: Any, values: Sequence[Any]) -> Any:
    """Return ``values[index]``, selected, which folds to one of them once the loop is unrolled."""
    chosen = values[-1]
    for number in reversed(range(len(values) - 1)):
        chosen = tirx.Select(index == number, values[number], chosen)
    return chosen


def _parts(func: PrimFunc) -> list[Any]:
    body = func.body.block.body
    return list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]


def _block_of(part: Any) -> Any:
    while isinstance(part, tirx.For):
        part = part.body
    return part.block


def _root_with(realize: Any, body: Any, buffers: list[Any]) -> Any:
    block = realize.block
    root = type(block)(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        body,
        block.init,
        buffers,
        block.match_buffers,
        block.annotations,
    )
    return type(realize)(realize.iter_values, realize.predicate, root)

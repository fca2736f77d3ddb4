"""The layouts in which the values of a network are available, and conversions between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import relax

from tvm_eff.passes.relax._calls import shape_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """The storage layout of a tensor.

    Attributes
    ----------
    order
        The tensor's dimensions in storage order, as ``permute_dims`` takes them.
        Channels-last is (0, 2, 3, 1).
    factors
        None, or the shape before the tensor was flattened into a matrix (N, C, H, W for N
        rows): then `order` permutes those dimensions, and each row is stored flattened in
        that order.
    """

    order: tuple[int, ...]
    factors: Shape | None = None


def plain(rank: int) -> Layout:
    """Return the layout in which dimensions are stored in logical order."""
    return Layout(tuple(range(rank)))


def channels_last(rank: int) -> Layout:
    """Return the layout of batch, spatial dimensions, channel."""
    return Layout((0, *range(2, rank), 1))


def is_plain(layout: Layout, shape: Shape) -> bool:
    """Whether `layout` stores the elements in logical order."""
    significant = [d for d in layout.order if (layout.factors or shape)[d] != 1]
    return significant == sorted(significant)


@dataclass
class Values:
    """The tensors that a function has computed so far, each in one or more layouts.

    Attributes
    ----------
    builder
        Emits layout conversions, at most one per tensor and layout.
    """

    builder: relax.BlockBuilder
    _known: dict[relax.Var, dict[Layout, relax.Expr]] = field(default_factory=dict)
    _tuples: dict[relax.Var, tuple[relax.Expr, Layout | None]] = field(default_factory=dict)

    def define(self, var: relax.Var, stored: dict[Layout, relax.Expr]) -> None:
        """Record the layouts of `var`; the first one is preferred."""
        self._known[var] = stored

    def define_tuple(self, var: relax.Var, stored: relax.Expr, layout: Layout | None) -> None:
        """Record a tuple whose tensors share one layout (None: logical order)."""
        self._tuples[var] = (stored, layout)

    def tuple_of(self, var: relax.Expr) -> tuple[relax.Expr, Layout | None]:
        """Return a tuple and its tensors' layout."""
        return self._tuples.get(var, (var, None))

    def all(self, expr: relax.Expr) -> dict[Layout, relax.Expr]:
        """Return `expr` in each layout in which it is available."""
        written = {plain(len(shape_of(expr) or ())): expr}
        return self._known.setdefault(expr, written) if isinstance(expr, relax.Var) else written

    def preferred(self, expr: relax.Expr) -> Layout:
        """Return the layout that `expr` was computed in."""
        return next(iter(self.all(expr)))

    def plain(self, expr: relax.Expr) -> relax.Expr:
        """Return `expr` in logical order."""
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.plain(each) for each in expr.fields])
        if isinstance(expr, relax.Var) and expr in self._tuples:
            return self._plain_tuple(expr)
        shape = shape_of(expr)
        return expr if shape is None else self.get(expr, plain(len(shape)))

    def get(self, expr: relax.Expr, layout: Layout) -> relax.Expr:
        """Return `expr` in `layout`, converted if necessary."""
        stored = self.all(expr)
        if layout not in stored:
            shape = shape_of(expr)
            assert shape is not None, "only tensors have layouts"
            source = next(iter(stored))
            stored[layout] = self._converted(stored[source], shape, source, layout)
        return stored[layout]

    def _plain_tuple(self, var: relax.Var) -> relax.Expr:
        stored, layout = self._tuples[var]
        if layout is None:
            return stored
        fields = []
        for number, ty in enumerate(var.ty.fields):
            shape = tuple(int(n) for n in ty.shape)
            each = self.builder.emit(relax.TupleGetItem(stored, number))
            fields.append(self._converted(each, shape, layout, plain(len(shape))))
        return relax.Tuple(fields)

    def _converted(
        self, stored: relax.Expr, shape: Shape, source: Layout, wanted: Layout
    ) -> relax.Expr:
        if source == wanted:
            return stored
        if source.factors is not None and source.factors != wanted.factors:
            as_written = plain(len(shape))
            inner = tuple(source.factors[d] for d in source.order)
            stored = self._reshaped(stored, inner)
            order = tuple(range(len(inner)))
            stored = self._permuted(stored, source.factors, source.order, order)
            return self._converted(self._reshaped(stored, shape), shape, as_written, wanted)
        if wanted.factors is not None and source.factors is None:
            # There may be a single row, where a matrix is broadcast.
            inner = (shape[0], *wanted.factors[1:])
            written = tuple(range(len(inner)))
            stored = self._converted(stored, shape, source, plain(len(shape)))
            stored = self._permuted(self._reshaped(stored, inner), inner, written, wanted.order)
            return self._reshaped(stored, shape)
        if source.factors is not None:
            inner = tuple(source.factors[d] for d in source.order)
            stored = self._reshaped(stored, inner)
            stored = self._permuted(stored, source.factors, source.order, wanted.order)
            return self._reshaped(stored, shape)
        return self._permuted(stored, shape, source.order, wanted.order)

    def _permuted(
        self, stored: relax.Expr, shape: Shape, source: Shape, wanted: Shape
    ) -> relax.Expr:
        """Permute a tensor stored in the order `source`; `shape` is in logical order."""
        if source == wanted:
            return stored
        significant = [[d for d in order if shape[d] != 1] for order in (source, wanted)]
        if significant[0] == significant[1]:
            return self._reshaped(stored, tuple(shape[d] for d in wanted))
        axes = [source.index(d) for d in wanted]
        return self.builder.emit(relax.op.permute_dims(stored, axes))

    def _reshaped(self, stored: relax.Expr, shape: Shape) -> relax.Expr:
        if shape_of(stored) == shape:
            return stored
        return self.builder.emit(relax.op.reshape(stored, shape))

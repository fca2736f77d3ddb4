"""Strategies for calls of operators that take, write, pool, resize and multiply."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from converter_calls import ALL, NUMBERS, Generator, calls

BOTH = (True, False)


@calls("select.int")
def _select(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    axis = g.axis(len(shape))
    return g.array(shape, ALL), axis, g.number(-shape[axis], shape[axis] - 1)


@calls("slice.Tensor")
def _slice(g: Generator) -> tuple[Any, ...]:
    shape = [*g.shape(0, 2), 5, *g.shape(0, 1)]
    axis = next(place for place, extent in enumerate(shape) if extent == 5)
    start, end = g.one(((0, 3), (-3, None), (1, 99), (-9, -1), (None, None), (-4, -2)))
    return g.array(shape, ALL), axis - g.one((0, len(shape))), start, end, g.number(1, 3)


@calls("slice_scatter.default")
def _slice_scatter(g: Generator) -> tuple[Any, ...]:
    shape = [*g.shape(0, 2), 5]
    dtype = g.one(ALL)
    start, end, step = g.one(((0, 3, 1), (-3, None, 2), (1, 99, 1), (-4, -2, 1)))
    written = [*shape[:-1], len(range(5)[start:end:step])]
    return g.array(shape, (dtype,)), g.array(written, (dtype,)), -1, start, end, step


@calls("select_scatter.default")
def _select_scatter(g: Generator) -> tuple[Any, ...]:
    shape = g.shape()
    axis, dtype = g.number(0, len(shape) - 1), g.one(ALL)
    written = [extent for place, extent in enumerate(shape) if place != axis]
    place = g.number(-shape[axis], shape[axis] - 1)
    return g.array(shape, (dtype,)), g.array(written, (dtype,)), axis, place


@calls("index_select.default")
def _index_select(g: Generator) -> tuple[Any, ...]:
    shape = [*g.shape(0, 2), 4, *g.shape(0, 1)]
    axis = next(place for place, extent in enumerate(shape) if extent == 4)
    return g.array(shape, ALL), axis, g.one((torch.tensor([3, 0, 0]), g.places([5], 4)))


@calls("index.Tensor")
def _index(g: Generator) -> tuple[Any, ...]:
    x = g.array([4, 3, 5], ALL)
    places = g.places([2, 3], 3, negative=True)
    one = g.one((places, torch.from_numpy(places)))
    listed = g.one(
        ([one], [None, one], [one, g.places([3], 3)], [None, None, one], [one, None, one])
    )
    return x, listed


@calls("index_put.default")
def _index_put(g: Generator) -> tuple[Any, ...]:
    x = g.array([4, 3, 5], NUMBERS, special=False)
    places = g.places([3], 3, negative=True)
    add = g.one(BOTH)
    computed = places if add else np.unique(places % 3)
    known = torch.from_numpy(g.places([6], 3, negative=True)) if add else torch.tensor([2, -3])
    one = g.one((computed, known))
    count = one.shape[0]
    where, written = g.one((([one], [3, 5]), ([None, one], [count, 5]), ([one, one], [5])))
    return x, where, g.array(g.one((written, [1])), (str(x.dtype),), special=False), add


@calls("embedding.default")
def _embedding(g: Generator) -> tuple[Any, ...]:
    return g.array([4, 3]), g.places(g.shape(1, 3), 4)


@calls("as_strided.default")
def _as_strided(g: Generator) -> tuple[Any, ...]:
    size, stride, offset = g.one(
        (([2, 3], [4, 1], 0), ([3, 2], [1, 4], 2), ([5], [0], 3), ([2, 2, 2], [4, 2, 1], None))
    )
    return g.array([3, 4], ALL), size, stride, offset


@calls("_embedding_bag.default", "_embedding_bag_forward_only.default")
def _embedding_bag(g: Generator) -> tuple[Any, ...]:
    offsets = torch.tensor(g.one(([0, 2, 2, 5], [0], [0, 1, 4])))
    mode = g.one((0, 1, 2))
    factors = g.smooth([6]) if mode == 0 and g.one(BOTH) else None
    last = g.one(BOTH)
    if last:
        offsets = torch.cat([offsets, torch.tensor([6])])
    padding = g.one((-1, 2))
    return g.smooth([4, 3]), g.places([6], 4), offsets, False, mode, False, factors, last, padding


@calls("scatter.src", "scatter_add.default")
def _scatter(g: Generator) -> tuple[Any, ...]:
    return _scattered(g, unique=True)


@calls("scatter.value")
def _scatter_value(g: Generator) -> tuple[Any, ...]:
    return (*_scattered(g, unique=True)[:3], g.one((1, 0, 7)))


@calls("scatter_reduce.two")
def _scatter_reduce(g: Generator) -> tuple[Any, ...]:
    name = g.one(("sum", "prod", "mean", "amax", "amin"))
    return (*_scattered(g, unique=False), name, {"include_self": g.one(BOTH)})


def _scattered(g: Generator, unique: bool) -> tuple[Any, ...]:
    axis, dtype = g.one((0, 1, -1)), g.one(("float32", "int32", "int64"))
    shape, given = [3, 4], [g.number(1, 3), g.number(1, 3)]
    index = g.places(given, shape[axis])
    if unique:
        order = np.random.default_rng(g.number(0, 99)).permutation(shape[axis])
        along = np.moveaxis(index, axis, -1)
        along[...] = order[: given[axis]]
    source = g.array([3, 3], (dtype,), special=False)
    return g.array(shape, (dtype,), special=False), axis, index, source


@calls("masked_scatter.default")
def _masked_scatter(g: Generator) -> tuple[Any, ...]:
    dtype = g.one(ALL)
    mask = g.array(g.one(([3, 4], [4], [3, 1])), ("bool",))
    return g.array([3, 4], (dtype,)), mask, g.array([2, 7], (dtype,))


@calls("_cdist_forward.default")
def _cdist(g: Generator) -> tuple[Any, ...]:
    width, batch = g.number(1, 5), g.one(([], [2], [2, 1]))
    p = g.one((0.0, 1.0, 2.0, 3.0, 0.5, math.inf))
    x, y = g.smooth([*batch, g.number(1, 4), width]), g.smooth([*batch, g.number(1, 4), width])
    return x, y, p, g.one((None, 1, 2))


@calls("_pdist_forward.default")
def _pdist(g: Generator) -> tuple[Any, ...]:
    return g.smooth([g.number(2, 5), g.number(1, 4)]), g.one((0.0, 1.0, 2.0, 3.0, math.inf))


@calls("_trilinear.default")
def _trilinear(g: Generator) -> tuple[Any, ...]:
    b, m, n, o = (g.number(1, 4) for _ in range(4))
    x, w, y = g.smooth([b, m]), g.smooth([o, m, n]), g.smooth([b, n])
    return x, w, y, [1, 3], [0], [1, 2], [2, 3]


@calls("mm.default")
def _mm(g: Generator) -> tuple[Any, ...]:
    m, k, n, dtype = (
        g.number(1, 5),
        g.number(1, 5),
        g.number(1, 5),
        g.one(("float32", "int32", "int64")),
    )
    return g.array([m, k], (dtype,), special=False), g.array([k, n], (dtype,), special=False)


@calls("bmm.default")
def _bmm(g: Generator) -> tuple[Any, ...]:
    b, m, k, n = (g.number(1, 4) for _ in range(4))
    dtype = g.one(("float32", "int32"))
    return g.array([b, m, k], (dtype,), special=False), g.array([b, k, n], (dtype,), special=False)


@calls("addmm.default")
def _addmm(g: Generator) -> tuple[Any, ...]:
    m, k, n = (g.number(1, 4) for _ in range(3))
    dtype = g.one(("float32", "int64"))
    factors = {"alpha": g.one((1, 2, 0)), "beta": g.one((1, 3, 0))}
    shapes = g.one((([m, n], [m, k], [k, n]), ([n], [m, k], [k, n])))
    return (*(g.array(each, (dtype,), special=False) for each in shapes), factors)


@calls("baddbmm.default")
def _baddbmm(g: Generator) -> tuple[Any, ...]:
    b, m, k, n = (g.number(1, 4) for _ in range(4))
    dtype = g.one(("float32", "int64"))
    factors = {"alpha": g.one((1, 2, 0)), "beta": g.one((1, 3, 0))}
    shapes = ([b, m, n], [b, m, k], [b, k, n])
    return (*(g.array(each, (dtype,), special=False) for each in shapes), factors)


@calls("convolution.default")
def _convolution(g: Generator) -> tuple[Any, ...]:
    rank, groups, transposed = g.number(1, 3), g.number(1, 2), g.one(BOTH)
    c, o = groups * g.number(1, 2), groups * g.number(1, 2)
    kernel = [g.number(1, 3) for _ in range(rank)]
    stride, dilation = ([g.number(1, 2) for _ in range(rank)] for _ in range(2))
    padding = [g.number(0, width - 1) for width in kernel]
    behind = [g.number(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True)]
    x = g.smooth([g.number(1, 2), c, *(g.number(5, 7) for _ in range(rank))])
    weight = g.smooth([c, o // groups, *kernel] if transposed else [o, c // groups, *kernel])
    bias = g.one((None, g.smooth([o])))
    outer = behind if transposed else [0] * rank
    return x, weight, bias, stride, padding, dilation, transposed, outer, groups


@calls("avg_pool3d.default")
def _average(g: Generator) -> tuple[Any, ...]:
    x = g.smooth([2, 2, 5, 6, 7])
    kernel = [g.number(1, 3)]
    stride = g.one(([], [1], [2]))
    padding = [g.number(0, kernel[0] // 2)]
    return x, kernel, stride, padding, g.one(BOTH), g.one(BOTH), g.one((None, 3, -2))


@calls("avg_pool2d.default")
def _average_2d(g: Generator) -> tuple[Any, ...]:
    return (g.smooth(g.one(([2, 3, 7, 6], [3, 5, 9]))), *_average(g)[1:])


@calls("max_pool2d_with_indices.default")
def _maximum(g: Generator) -> tuple[Any, ...]:
    x = g.array(g.one(([2, 3, 7, 6], [3, 5, 9])), special=False)
    kernel, stride = g.one(([2, 3], [3], [2])), g.one(([], [1], [2, 1]))
    return x, kernel, stride, [g.number(0, 1)], [g.number(1, 2)], g.one(BOTH)


@calls("max_pool3d_with_indices.default")
def _maximum_3d(g: Generator) -> tuple[Any, ...]:
    x, kernel, stride = (
        g.array([1, 2, 5, 6, 7], special=False),
        g.one(([2, 3, 2], [3])),
        g.one(([], [2])),
    )
    return x, kernel, stride, [g.number(0, 1)], [1], g.one(BOTH)


@calls("adaptive_avg_pool1d.default")
def _adaptive_1d(g: Generator) -> tuple[Any, ...]:
    return g.smooth([2, 3, g.number(1, 9)]), [g.number(1, 9)]


@calls("_adaptive_avg_pool2d.default", "adaptive_max_pool2d.default")
def _adaptive_2d(g: Generator) -> tuple[Any, ...]:
    return g.smooth([2, 3, g.number(1, 9), g.number(1, 9)]), [g.number(1, 9), g.number(1, 9)]


@calls("_adaptive_avg_pool3d.default", "adaptive_max_pool3d.default")
def _adaptive_3d(g: Generator) -> tuple[Any, ...]:
    return g.smooth([1, 2, *(g.number(1, 6) for _ in range(3))]), [g.number(1, 6) for _ in range(3)]


@calls("upsample_bicubic2d.vec", "upsample_bilinear2d.vec")
def _resized(g: Generator) -> tuple[Any, ...]:
    x = g.smooth([1, 2, g.number(2, 9), g.number(2, 9)])
    size, factors = g.one(
        (([g.number(1, 12), g.number(1, 12)], None), (None, [1.7, 0.6]), (None, [2.0, 2.0]))
    )
    return x, size, g.one(BOTH), factors


@calls("_upsample_nearest_exact2d.vec", "upsample_nearest2d.vec")
def _nearest(g: Generator) -> tuple[Any, ...]:
    x, size, _, factors = _resized(g)
    return x, size, factors


@calls("_upsample_bicubic2d_aa.default", "_upsample_bilinear2d_aa.default")
def _antialiased(g: Generator) -> tuple[Any, ...]:
    # A width of 1 is refused.
    x = g.smooth([1, 2, g.number(2, 9), g.number(2, 9)])
    return x, [g.number(2, 12), g.number(2, 12)], g.one(BOTH), None, None


@calls("grid_sampler_2d.default")
def _grid(g: Generator) -> tuple[Any, ...]:
    places = np.random.default_rng(g.number(0, 99)).uniform(-1.3, 1.3, (2, 3, 4, 2))
    mode, padding = g.number(0, 2), g.number(0, 2)
    return g.smooth([2, 3, 6, 5]), places.astype("float32"), mode, padding, g.one(BOTH)


@calls("native_group_norm.default")
def _group_norm(g: Generator) -> tuple[Any, ...]:
    n, groups = g.number(1, 2), g.number(1, 3)
    c, extent = 2 * groups, g.number(2, 6)
    weight, bias = (g.one((None, g.smooth([c]))) for _ in range(2))
    return g.smooth([n, c, extent]), weight, bias, n, c, extent, groups, g.one((1e-5, 1e-3))


@calls("reflection_pad1d.default", "replication_pad1d.default")
def _padded_1d(g: Generator) -> tuple[Any, ...]:
    return g.array([2, 3, 5]), [g.number(0, 4), g.number(0, 4)]


@calls("reflection_pad2d.default", "replication_pad2d.default")
def _padded_2d(g: Generator) -> tuple[Any, ...]:
    return g.array([2, 3, 5, 4]), [g.number(0, 3) for _ in range(4)]

"""A call or more of each operator that PyTorch tags as core, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tvm_eff.tensors import TensorSpec

_FIRST_RESULT = (
    "_embedding_bag",
    "_embedding_bag_forward_only",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "native_dropout",
    "native_group_norm",
    "native_layer_norm",
)
"""Whose other results belong to training."""

MATRIX = TensorSpec((3, 4), "float32")
CUBE = TensorSpec((2, 3, 4), "float32")
IMAGE = TensorSpec((2, 4, 7, 6), "float32")
VOLUME = TensorSpec((1, 2, 5, 6, 4), "float32")
LINE = TensorSpec((2, 4, 9), "float32")
BYTES = TensorSpec((3, 4), "uint8")
WORDS = TensorSpec((3, 4), "int32")
LONGS = TensorSpec((3, 4), "int64")
FLAGS = TensorSpec((3, 4), "bool")


@dataclass(frozen=True)
class Sample:
    """A call of an operator: its arguments, with a spec where an input of the network goes."""

    operator: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> list[TensorSpec]:
        """What it takes, in order."""
        leaves = pytree.tree_leaves((self.arguments, self.keywords))
        return [each for each in leaves if isinstance(each, TensorSpec)]


class Sampled(nn.Module):
    """A sample as a module."""

    def __init__(self, sample: Sample) -> None:
        super().__init__()
        self.sample = sample

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Call the operator."""
        result = called(
            self.sample.operator, self.sample.arguments, self.sample.keywords, TensorSpec, tensors
        )
        return result if isinstance(result, torch.Tensor | list | tuple) else tensors[0] * result


def called(
    operator: str,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    kind: type,
    tensors: Iterable[Any],
) -> Any:
    """Call an operator with tensors in the place of those arguments that are of a kind."""
    left = iter(tensors)
    given, by_name = pytree.tree_map(
        lambda each: next(left) if isinstance(each, kind) else each, (arguments, keywords)
    )
    result = overload(operator)(*given, **by_name)
    return result[0] if operator.split(".")[0] in _FIRST_RESULT else result


def overload(name: str) -> Any:
    """Return an operator's overload by its name, ``add.Tensor``."""
    packet, _, chosen = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet, None), chosen, None)


def core_operators() -> list[str]:
    """Return the names of all overloads of ATen that PyTorch tags as core."""
    # Of its operators, torch.ops.aten lists those that somebody asked for.
    every = torch._C._dispatch_get_all_op_names()
    names = sorted(each.removeprefix("aten::") for each in every if each.startswith("aten::"))
    full = [name if "." in name else f"{name}.default" for name in names]
    return [name for name in full if torch.Tag.core in getattr(overload(name), "tags", ())]


_OF_NUMBERS = """
    abs ceil floor neg relu round sign trunc alias clone logical_not any prod isinf isnan
"""
_OF_FLOATS = """
    acos acosh asin asinh atan atanh cos cosh erf exp expm1 log log10 log1p log2 reciprocal
    rsqrt sigmoid sin sinh sqrt tan tanh
"""
_ACTIVATIONS = "elu gelu hardtanh leaky_relu mean"
_OF_TWO = ("add", "div", "eq", "ge", "gt", "le", "lt", "mul", "ne", "sub")
_QUOTIENTS = ("fmod", "remainder")
_OF_BITS = ("bitwise_and", "bitwise_or", "bitwise_xor")
_LOGICAL = ("logical_and", "logical_or", "logical_xor")

_PLACES = torch.tensor([[0, 2, 1, 0], [1, 0, 2, 2]])
_GRID = torch.linspace(-1.1, 1.1, 48).reshape(2, 3, 4, 2)
_MEANS, _SPREADS = torch.tensor([0.5, 0.0, -1.0, 2.0]), torch.tensor([1.0, 0.5, 2.0, 3.0])
_DIVISORS = torch.tensor([3, -2, 5, -7], dtype=torch.int32)
_POINTS = TensorSpec((5, 3), "float32")
_SQUARE = TensorSpec((4, 4), "float32")
_TABLE = TensorSpec((6, 3), "float32")
_CHANNELS = TensorSpec((4,), "float32")

_CALLS: dict[str, list[tuple[Any, ...]]] = {
    **{f"{name}.default": [(CUBE,), (WORDS,)] for name in _OF_NUMBERS.split()},
    **{f"{name}.default": [(CUBE,), (BYTES,)] for name in _OF_FLOATS.split()},
    **{f"{name}.default": [(CUBE,)] for name in _ACTIVATIONS.split()},
    **{f"{name}.Tensor": [(CUBE, MATRIX), (BYTES, WORDS)] for name in _OF_TWO},
    **{f"{name}.Scalar": [(CUBE, 0.75), (WORDS, 3)] for name in (*_OF_TWO, *_QUOTIENTS)},
    **{f"{name}.Tensor": [(CUBE, MATRIX), (BYTES, _DIVISORS)] for name in _QUOTIENTS},
    **{f"{name}.Tensor": [(WORDS, WORDS), (FLAGS, FLAGS), (BYTES, LONGS)] for name in _OF_BITS},
    **{f"{name}.Scalar": [(WORDS, 6), (FLAGS, True)] for name in _OF_BITS},
    **{f"{name}.default": [(CUBE, MATRIX), (FLAGS, WORDS)] for name in _LOGICAL},
    "_adaptive_avg_pool2d.default": [(IMAGE, [3, 3]), (IMAGE, [1, 4])],
    "_adaptive_avg_pool3d.default": [(VOLUME, [5, 3, 2]), (VOLUME, [2, 4, 3])],
    "_cdist_forward.default": [
        (CUBE, TensorSpec((2, 5, 4), "float32"), p, None) for p in (2.0, 1.0, 0.0, 3.0, math.inf)
    ],
    "_embedding_bag.default": [
        (_TABLE, torch.tensor([0, 2, 5, 5, 1]), torch.tensor([0, 2, 2]), False, mode, False, None)
        for mode in (0, 1, 2)
    ],
    "_fft_c2r.default": [(TensorSpec((3, 4), "complex64"), [1], 0, 6)],
    "_fft_r2c.default": [(MATRIX, [1], 0, True)],
    "_local_scalar_dense.default": [(TensorSpec((1,), "float32"),)],
    "_log_softmax.default": [(CUBE, 1, False)],
    "_native_batch_norm_legit.no_stats": [(IMAGE, _MEANS, None, True, 0.1, 1e-5)],
    "_native_batch_norm_legit_no_training.default": [
        (IMAGE, _MEANS, None, _MEANS, _SPREADS, 0.1, 1e-5)
    ],
    "_pdist_forward.default": [(_POINTS, p) for p in (2.0, 1.0, math.inf)],
    "_softmax.default": [(CUBE, -1, False), (CUBE, 0, False)],
    "_to_copy.default": [(CUBE,), (CUBE, {"dtype": torch.int32}), (BYTES, {"dtype": torch.float})],
    "adaptive_avg_pool1d.default": [(LINE, [3]), (LINE, [4])],
    "addmm.default": [(MATRIX, MATRIX, _SQUARE, {"beta": 0.5, "alpha": 2})],
    "amax.default": [(CUBE, [1], True), (CUBE,), (BYTES, [0])],
    "amin.default": [(CUBE, [0, 2]), (WORDS, [1])],
    "any.dim": [(CUBE, 1, True), (FLAGS, 0)],
    "any.dims": [(CUBE, [0, 2]), (FLAGS,)],
    "arange.start_step": [(0, 10, 3), (1.5, 3, 0.25, {"dtype": torch.float32})],
    "argmax.default": [(CUBE, 1), (BYTES,)],
    "argmin.default": [(CUBE, 2, True), (WORDS, 0)],
    "as_strided.default": [(MATRIX, [2, 3], [1, 4], 1), (MATRIX, [3, 2, 2], [2, 2, 1])],
    "atan2.default": [(CUBE, MATRIX), (WORDS, BYTES)],
    "avg_pool1d.default": [(LINE, [3]), (LINE, [3], [2], [1], True, False)],
    "avg_pool2d.default": [(IMAGE, [3, 2]), (IMAGE, [3, 3], [2, 2], [1, 1], True, False, 5)],
    "avg_pool3d.default": [(VOLUME, [2, 3, 2]), (VOLUME, [3, 3, 2], [2, 2, 2], 1, True, False, 5)],
    "bitwise_not.default": [(WORDS,), (FLAGS,), (BYTES,)],
    "bmm.default": [(CUBE, TensorSpec((2, 4, 5), "float32"))],
    "cat.default": [([CUBE, CUBE], 1), ([WORDS, MATRIX, FLAGS],)],
    "clamp.Tensor": [(CUBE, MATRIX, None), (WORDS, torch.tensor(-1), torch.tensor(1.5))],
    "clamp.default": [(CUBE, -0.5, 0.5), (WORDS, None, 0.5)],
    "col2im.default": [
        (TensorSpec((2, 12, 16), "float32"), [5, 4], [2, 3], [1, 1], [0, 1], [1, 1])
    ],
    "constant_pad_nd.default": [
        (IMAGE, [1, 2, 0, 3], 0.5),
        (IMAGE, [-1, 2, 1, -2]),
        (BYTES, [1, 0]),
    ],
    "convolution.default": [
        (LINE, torch.randn(6, 2, 3), None, [2], [1], [2], False, [0], 2),
        (IMAGE, torch.randn(6, 4, 3, 2), torch.randn(6), [2, 1], [1, 0], [1, 2], False, [0, 0], 1),
        (VOLUME, torch.randn(4, 1, 2, 3, 2), None, [1] * 3, [1, 0, 1], [1] * 3, False, [0] * 3, 2),
        (LINE, torch.randn(4, 3, 3), torch.randn(6), [2], [1], [2], True, [1], 2),
        (IMAGE, torch.randn(4, 3, 3, 2), None, [2, 3], [1, 0], [2, 1], True, [1, 2], 2),
        (
            VOLUME,
            torch.randn(2, 3, 2, 3, 2),
            None,
            [2, 1, 2],
            [1, 0, 1],
            [1] * 3,
            True,
            [1, 0, 0],
            1,
        ),
    ],
    "copy.default": [(CUBE, MATRIX), (MATRIX, WORDS)],
    "cumsum.default": [(CUBE, 1), (BYTES, 1), (WORDS, 0, {"dtype": torch.float32})],
    "diagonal.default": [(_SQUARE,), (CUBE, 1, 2, 1), (CUBE, -1, 1, 2)],
    "div.Scalar_mode": [
        (CUBE, 0.3, {"rounding_mode": "floor"}),
        (WORDS, 3, {"rounding_mode": "trunc"}),
    ],
    "div.Tensor_mode": [(CUBE, MATRIX, {"rounding_mode": "trunc"})],
    "embedding.default": [(_TABLE, LONGS), (_TABLE, WORDS, 1)],
    "expand.default": [(MATRIX, [2, -1, 4])],
    "fill.Scalar": [(CUBE, 0.5), (BYTES, 3)],
    "flip.default": [(CUBE, [0, -1])],
    "full.default": [([2, 3], 0.5), ([2], 3, {"dtype": torch.uint8})],
    "full_like.default": [(CUBE, 2), (MATRIX, 1.5, {"dtype": torch.int32})],
    "gather.default": [(TensorSpec((2, 3), "float32"), 1, _PLACES), (MATRIX, 0, LONGS)],
    "grid_sampler_2d.default": [(IMAGE, _GRID, 0, 0, False), (IMAGE, _GRID, 1, 1, True)],
    "index.Tensor": [(MATRIX, [torch.tensor([2, -1]), None]), (MATRIX, [LONGS])],
    "index_put.default": [
        (MATRIX, [torch.tensor([2, 0])], torch.tensor(7.0)),
        (MATRIX, [FLAGS], torch.tensor(-1.0), True),
    ],
    "index_select.default": [(MATRIX, 1, torch.tensor([3, 0, 0]))],
    "masked_scatter.default": [
        (MATRIX, FLAGS, TensorSpec((5, 4), "float32")),
        (WORDS, torch.eye(3, 4) > 0, WORDS),
    ],
    "max.dim": [(CUBE, 1), (BYTES, 0, True)],
    "max_pool2d_with_indices.default": [
        (IMAGE, [2, 3]),
        (IMAGE, [3, 3], [2, 2], [1, 1], [2, 1], True),
    ],
    "max_pool3d_with_indices.default": [
        (VOLUME, [2, 3, 2]),
        (VOLUME, [3, 3, 2], [2, 2, 2], [1, 1, 1], [1, 2, 1], True),
    ],
    "maximum.default": [(CUBE, MATRIX), (BYTES, WORDS)],
    "mean.dim": [(CUBE, [1], True), (CUBE, None), (WORDS, [0], {"dtype": torch.float32})],
    "min.dim": [(CUBE, 2), (WORDS, 0)],
    "minimum.default": [(CUBE, MATRIX), (FLAGS, FLAGS)],
    "mm.default": [(MATRIX, _SQUARE), (LONGS, TensorSpec((4, 2), "int64"))],
    "native_dropout.default": [(CUBE, 0.5, False)],
    "native_group_norm.default": [(IMAGE, _MEANS, None, 2, 4, 42, 2, 1e-5)],
    "native_layer_norm.default": [
        (CUBE, [4], _MEANS, None, 1e-5),
        (CUBE, [3, 4], None, None, 1e-5),
    ],
    "permute.default": [(CUBE, [2, 0, -2])],
    "pow.Scalar": [(2, CUBE), (2, WORDS), (0.5, BYTES)],
    "pow.Tensor_Scalar": [(CUBE, 3), (CUBE, -1.5), (WORDS, 2), (BYTES, 0.5)],
    "pow.Tensor_Tensor": [(CUBE, MATRIX), (WORDS, WORDS), (BYTES, MATRIX)],
    "prod.dim_int": [(CUBE, 1, True), (WORDS, 0)],
    "reflection_pad1d.default": [(LINE, [2, 1])],
    "reflection_pad2d.default": [(IMAGE, [1, 2, 0, 3])],
    "reflection_pad3d.default": [(VOLUME, [1, 2, 0, 3, 2, 0])],
    "repeat.default": [(MATRIX, [2, 1, 3])],
    "replication_pad2d.default": [(IMAGE, [1, 2, 0, 3])],
    "replication_pad3d.default": [(VOLUME, [1, 2, 0, 3, 2, 0])],
    "scalar_tensor.default": [(1.5,), (3, {"dtype": torch.int32})],
    "scatter.src": [(MATRIX, 0, LONGS, MATRIX), (MATRIX, 1, _PLACES[:1], MATRIX)],
    "scatter.value": [(MATRIX, 1, LONGS, 0.5), (WORDS, 0, _PLACES, 3)],
    "scatter_add.default": [(MATRIX, 0, LONGS, MATRIX), (WORDS, 1, _PLACES, WORDS)],
    "scatter_reduce.two": [
        (MATRIX, 0, LONGS, MATRIX, name, {"include_self": self})
        for name in ("sum", "prod", "mean", "amax", "amin")
        for self in (True, False)
    ],
    "select.int": [(CUBE, 1, -1)],
    "select_scatter.default": [(CUBE, MATRIX, 0, -1)],
    "slice.Tensor": [(CUBE, 2, 1, 3), (CUBE, 1, -2, None, 2)],
    "slice_scatter.default": [(MATRIX, TensorSpec((3, 2), "float32"), 1, 0, 4, 2)],
    "sort.default": [(MATRIX, 1, True)],
    "split_with_sizes.default": [(CUBE, [1, 3], 2)],
    "squeeze.dim": [(TensorSpec((2, 1, 3), "float32"), 1), (CUBE, 0)],
    "squeeze.dims": [(TensorSpec((1, 2, 1, 3), "float32"), [0, 1, 2])],
    "sum.dim_IntList": [(CUBE, [1], True), (CUBE, None), (FLAGS, [0]), (BYTES, [1])],
    "topk.default": [(MATRIX, 2)],
    "unsqueeze.default": [(MATRIX, 1), (MATRIX, -1)],
    "upsample_bilinear2d.vec": [(IMAGE, [9, 4], False, None), (IMAGE, None, True, [2.0, 1.5])],
    "upsample_nearest2d.vec": [(IMAGE, [9, 4], None), (IMAGE, None, [2.0, 2.0])],
    "var.correction": [
        (CUBE, [1], {"correction": 0, "keepdim": True}),
        (CUBE, None, {"correction": 1}),
    ],
    "var.dim": [(CUBE, [1], False, True), (CUBE, [0, 2])],
    "view.default": [(CUBE, [6, -1])],
    "where.self": [
        (FLAGS, MATRIX, MATRIX),
        (FLAGS, WORDS, MATRIX),
        (FLAGS, torch.tensor(1.0), CUBE),
    ],
}

_TRAINING = "belongs to training: it computes gradients"
_SYMBOLIC = "reads the shape of a tensor, which a traced network has as numbers"
_RANDOM = "is random: a library computes the same from the same inputs"

NOT_CALLED = {
    "_adaptive_avg_pool2d_backward.default": _TRAINING,
    "_native_batch_norm_legit.default": "belongs to training: it changes running statistics",
    "atan2.out": "writes into a tensor that is given; torch.export makes it atan2.default",
    "avg_pool2d_backward.default": _TRAINING,
    "convolution_backward.default": _TRAINING,
    "embedding_dense_backward.default": _TRAINING,
    "empty.memory_format": "has no values before something is written",
    "empty_strided.default": "has no values before something is written",
    "max_pool2d_with_indices_backward.default": _TRAINING,
    "native_group_norm_backward.default": _TRAINING,
    "native_layer_norm_backward.default": _TRAINING,
    "nonzero.default": "makes a result whose size depends on the values",
    "rand.default": _RANDOM,
    "randn.default": _RANDOM,
    "randperm.default": _RANDOM,
    "resize_.default": "changes the size of a tensor in place, which torch.export does not trace",
    "sym_is_contiguous.default": _SYMBOLIC,
    "sym_numel.default": _SYMBOLIC,
    "sym_size.int": _SYMBOLIC,
    "sym_storage_offset.default": _SYMBOLIC,
    "sym_stride.int": _SYMBOLIC,
}
"""Core operators that no network in use has as such, and why."""


def samples() -> list[Sample]:
    """Return all samples, in the order of their operators' names."""
    found = []
    for name, calls in sorted(_CALLS.items()):
        for given in calls:
            keywords = given[-1] if isinstance(given[-1], dict) else {}
            arguments = given[:-1] if keywords else given
            found.append(Sample(name, arguments, keywords))
    return found

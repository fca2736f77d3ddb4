"""Replace a trained convolution by 1-D ones: canonical polyadic (CP) decomposition.

A filter of a convolution is a third-order tensor: channels, rows, columns. Its CP
decomposition of rank R is a sum of R products of a lateral, a vertical and a horizontal
1-D filter. With R = 1 the result is a stage of a flattened network (Jin, Dundar and
Culurciello, arXiv:1412.5474), which that paper trains from scratch, and which is computed
here from the weights of a trained layer.

Each filter is decomposed separately, as the authors compose it in their code's example
(github.com/jhjin/flattened-cnn), and not the whole bank as one fourth-order tensor (as
Lebedev et al. do, arXiv:1412.6553): output channel n then has its own vertical and
horizontal filter, and any bank of rank-one filters is reproduced exactly.

The decomposition is TensorLy's (tensorly.decomposition.parafac, alternating least
squares). It is initialized with the result of the rank below and the best rank-one
approximation of its residual: it is deterministic, and the error cannot grow with the rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorly
import torch
from tensorly.cp_tensor import CPTensor, cp_to_tensor
from tensorly.decomposition import parafac
from torch import nn

from tvm_eff.errors import ModelError
from tvm_eff.models.flattened import FlattenedStage

# A product's lateral, vertical and horizontal filters, a column for each product.
_Factors = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Flattening:
    """A convolution of 1-D filters, and its approximation error.

    Attributes
    ----------
    module
        The convolution, with the bias of the original.
    error
        The Frobenius norm of the difference of the weights, relative to the original's.
    """

    module: FlattenedStage
    error: float


def flatten_conv(conv: nn.Conv2d, rank: int = 1) -> Flattening:
    """Approximate a convolution by lateral, vertical and horizontal 1-D convolutions.

    A filter of rank one is reproduced exactly, up to rounding, with the convolution's
    stride, padding, dilation and bias.

    Parameters
    ----------
    conv
        A trained convolution; it is not modified.
    rank
        1-D filters of each direction per output channel. The cost is proportional to it.

    Raises
    ------
    ModelError
        `conv` is no plain convolution (transposed, grouped, padded other than with
        zeros), its weights are not finite, or `rank` is less than one.
    """
    _require_plain(conv)
    if rank < 1:
        raise ModelError(f"a rank of {rank} leaves nothing of the convolution; use 1 or more")
    weights = conv.weight.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(weights).all():
        raise ModelError(
            f"the weights of {conv} hold NaN or infinity, and have no decomposition; "
            "load finite ones first"
        )
    with tensorly.backend_context("numpy", local_threadsafe=True):
        filters = [_decompose(each, rank) for each in weights]
    # Initializing a module draws weights; the caller's random state must not change.
    with torch.random.fork_rng(devices=[]):
        stage = _stage(conv, rank)
    _fill(stage, conv, filters)
    return Flattening(stage, _relative_error(weights, stage))


def _require_plain(conv: nn.Module) -> None:
    if not isinstance(conv, nn.Conv2d):
        raise ModelError(
            f"only nn.Conv2d can be flattened, not {type(conv).__name__}; a transposed or "
            "1-D convolution has no flattened form here"
        )
    if conv.groups != 1:
        raise ModelError(
            f"{conv} has {conv.groups} groups, and a lateral filter spans all channels; "
            "flatten convolutions with groups=1"
        )
    if conv.padding_mode != "zeros":
        raise ModelError(
            f"{conv} pads with '{conv.padding_mode}', which is not kept by 1-D convolutions "
            "in sequence; use padding_mode='zeros'"
        )


def _decompose(weights: np.ndarray, rank: int) -> _Factors:
    """Decompose one filter (channels, rows, columns) into `rank` products."""
    channels, rows, columns = weights.shape
    # Compress the channels to the rank of the (rows x columns) unfolding first: a filter of
    # 512 channels is decomposed as one of 9 or 25, with the same result and much faster.
    basis, core = np.linalg.qr(weights.reshape(channels, rows * columns))
    core = core.reshape(-1, rows, columns)
    scale = np.linalg.norm(core)
    if scale == 0:
        return _empty(weights, rank)
    lateral, vertical, horizontal = _products(core / scale, rank)
    lengths = np.linalg.norm(vertical, axis=0) * np.linalg.norm(horizontal, axis=0)
    return basis @ lateral * scale * lengths, _unit(vertical), _unit(horizontal)


def _products(core: np.ndarray, rank: int) -> _Factors:
    factors = _nearest_product(core)
    for _ in range(rank - 1):
        product = _nearest_product(core - _sum(factors))
        factors = _better(core, _append(factors, product))
    return factors


def _nearest_product(rest: np.ndarray) -> _Factors:
    scale = np.linalg.norm(rest)
    # Of a core of norm one, this is rounding.
    if scale < 1e-14:
        return _empty(rest, 1)
    lateral, vertical, horizontal = parafac(rest / scale, 1, init="svd").factors
    return lateral * scale, vertical, horizontal


def _empty(core: np.ndarray, rank: int) -> _Factors:
    channels, rows, columns = core.shape
    return np.zeros((channels, rank)), np.zeros((rows, rank)), np.zeros((columns, rank))


def _better(tensor: np.ndarray, start: _Factors) -> _Factors:
    """Improve `start` by alternating least squares; return it where that fails."""
    try:
        found = parafac(tensor, start[0].shape[1], init=CPTensor((None, list(start))))
    except np.linalg.LinAlgError:
        return start
    refined: _Factors = tuple(found.factors)
    if np.linalg.norm(tensor - _sum(refined)) < np.linalg.norm(tensor - _sum(start)):
        return refined
    return start


def _sum(factors: _Factors) -> np.ndarray:
    return cp_to_tensor(CPTensor((None, list(factors))))


def _append(factors: _Factors, product: _Factors) -> _Factors:
    lateral, vertical, horizontal = (
        np.hstack([each, column]) for each, column in zip(factors, product, strict=True)
    )
    return lateral, vertical, horizontal


def _unit(filters: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(filters, axis=0)
    return filters / np.where(lengths > 0, lengths, 1)


def _stage(conv: nn.Conv2d, rank: int) -> FlattenedStage:
    # An inner bias before a padded convolution would differ at the borders.
    stage = FlattenedStage(
        conv.in_channels,
        conv.out_channels,
        _pair(conv.kernel_size),
        _pair(conv.stride),
        conv.padding if isinstance(conv.padding, str) else _pair(conv.padding),
        _pair(conv.dilation),
        rank,
        bias=conv.bias is not None,
        inner_biases=False,
    )
    return stage.to(conv.weight.device, conv.weight.dtype).train(conv.training)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    height, width = values
    return height, width


def _fill(stage: FlattenedStage, conv: nn.Conv2d, filters: list[_Factors]) -> None:
    lateral, vertical, horizontal = (
        torch.from_numpy(np.stack([each[direction].T for each in filters]))
        for direction in range(3)
    )
    with torch.no_grad():
        stage.lateral.weight.copy_(lateral.reshape(stage.lateral.weight.shape))
        stage.vertical.weight.copy_(vertical.reshape(stage.vertical.weight.shape))
        stage.horizontal.weight.copy_(horizontal.reshape(stage.horizontal.weight.shape))
        if conv.bias is not None and stage.horizontal.bias is not None:
            stage.horizontal.bias.copy_(conv.bias)


def _relative_error(weights: np.ndarray, stage: FlattenedStage) -> float:
    """Compare with the weights as the stage holds them, rounded to its data type."""
    lateral, vertical, horizontal = (
        convolution.weight.detach().to("cpu", torch.float64).numpy()
        for convolution in (stage.lateral, stage.vertical, stage.horizontal)
    )
    shape = (stage.outputs, stage.rank, -1)
    found = np.einsum(
        "nrc,nry,nrx->ncyx",
        lateral.reshape(shape),
        vertical.reshape(shape),
        horizontal.reshape(shape),
    )
    norm = float(np.linalg.norm(weights))
    return float(np.linalg.norm(weights - found)) / norm if norm > 0 else 0.0

"""How far a quantized network is from float32: noise of its outputs, agreement of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tvm_eff.models import Program

_LEAST_NOISE = 1e-20
"""Of noise over signal: 200 dB are as good as equal."""


@dataclass(frozen=True)
class Loss:
    """How far a network is from float32 on some samples.

    Attributes
    ----------
    sqnr_db
        The ratio of signal to quantization noise of all outputs, in decibels.
    same_class
        The share of inputs with the same highest class score; None if the first output is no
        row of class scores.
    """

    sqnr_db: float
    same_class: float | None


def loss_of(exact: Program, quantized: Program, cases: Sequence[Sequence[np.ndarray]]) -> Loss:
    """Compare a quantized network with float32 in PyTorch.

    Parameters
    ----------
    exact, quantized
        The same network, before and after.
    cases
        Inputs to compare on, at least one.

    Raises
    ------
    ModelError
        As for :meth:`tvm_eff.models.Program.run`.
    """
    signal, noise = 0.0, 0.0
    same: list[bool] = []
    for inputs in cases:
        wanted, found = exact.run(inputs), quantized.run(inputs)
        for one, other in zip(wanted, found, strict=True):
            wide = one.astype("float64")
            signal += float(np.square(wide).sum())
            noise += float(np.square(wide - other).sum())
        if wanted[0].ndim == 2 and wanted[0].shape[1] > 1:
            same += list(wanted[0].argmax(1) == found[0].argmax(1))
    sqnr = decibels(noise / signal if signal else 0.0)
    return Loss(sqnr, float(np.mean(same)) if same else None)


def decibels(noise: float) -> float:
    """Return the ratio of signal to noise, in decibels, of noise as a share of the signal."""
    return -10 * float(np.log10(max(noise, _LEAST_NOISE)))

"""How far a tensor is from what it should be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_eff.deploy.accuracy import allowed_error
from tvm_eff.tensors import TOLERANCE, relative_error


@dataclass(frozen=True)
class Difference:
    """Where an output differs most, and by how much.

    Attributes
    ----------
    tensor
        Which tensor, in words.
    place
        The indices of the largest difference.
    found, expected
        The values there.
    ulps
        Their distance in units in the last place of the one expected; for integers, simply
        their distance.
    relative
        The largest difference as a fraction of the spread of what is expected.
    snr
        The ratio of signal to noise in dB: the squares of what is expected to those of the
        differences.
    count, size
        How many values differ, and of how many.
    """

    tensor: str
    place: tuple[int, ...]
    found: float
    expected: float
    ulps: float
    relative: float
    snr: float
    count: int
    size: int

    def __str__(self) -> str:
        at = ", ".join(map(str, self.place))
        return (
            f"at [{at}] of {self.tensor} it is {self.found:.7g} instead of "
            f"{self.expected:.7g}: {self.ulps:.3g} ulps, {self.relative:.2g} of its "
            f"spread, SNR {self.snr:.1f} dB; {self.count} of {self.size} values differ"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs; what is no finite number is None."""
        return {
            name: value if not isinstance(value, float) or math.isfinite(value) else None
            for name, value in vars(self).items()
        }


def difference(
    found: np.ndarray, expected: np.ndarray, written: np.ndarray, tolerance: float, tensor: str
) -> Difference | None:
    """Return how an output differs from what is expected; None if it does not.

    Parameters
    ----------
    found
        The output; NaN, or -1, where nothing was written.
    expected
        What it should be.
    written
        Where it should have been written.
    tolerance
        The largest error allowed of floats, as a fraction of their spread. Integers are the same;
        of a kernel in float16, whose tolerance is larger, bytes may be one off.
    tensor
        What messages call it.
    """
    exact = expected.dtype.kind != "f"
    blank = np.asarray(-1).astype(expected.dtype) if exact else np.nan
    wanted = np.where(written, expected, blank).astype(expected.dtype)
    if np.array_equal(found, wanted, equal_nan=not exact):
        return None
    stray = not np.array_equal(found[~written], wanted[~written], equal_nan=not exact)
    relative = relative_error(found[written], wanted[written])
    if not exact and not stray and relative <= allowed_error(wanted[written], tolerance, 0.0):
        return None
    if not stray and tolerance > TOLERANCE and _are_bytes_one_off(found[written], wanted[written]):
        return None
    return _worst(found, wanted, math.inf if stray else relative, tensor)


def _are_bytes_one_off(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether bytes are what numbers that are off by half a step may be rounded to."""
    if wanted.dtype.itemsize != 1 or wanted.dtype.kind not in "iu":
        return False
    return bool(np.abs(found.astype("int32") - wanted.astype("int32")).max(initial=0) <= 1)


def _worst(found: np.ndarray, wanted: np.ndarray, relative: float, tensor: str) -> Difference:
    ours, theirs = found.astype("float64"), wanted.astype("float64")
    with np.errstate(all="ignore"):
        both = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        off = np.where(both, 0.0, np.abs(ours - theirs))
    off = np.where(np.isnan(off), np.inf, off)
    place = np.unravel_index(int(off.argmax()), off.shape)
    return Difference(
        tensor=tensor,
        place=tuple(map(int, place)),
        found=float(ours[place]),
        expected=float(theirs[place]),
        ulps=_ulps(float(off[place]), wanted[place]),
        relative=relative,
        snr=_snr(theirs, off),
        count=int(np.count_nonzero(off)),
        size=found.size,
    )


def _ulps(distance: float, expected: Any) -> float:
    if expected.dtype.kind != "f" or not math.isfinite(distance):
        return distance
    return distance / float(np.spacing(np.abs(expected)))


def _snr(wanted: np.ndarray, off: np.ndarray) -> float:
    finite = np.isfinite(wanted)
    signal, noise = float((wanted[finite] ** 2).sum()), float((off**2).sum())
    if not math.isfinite(noise):
        return -math.inf
    return 10 * math.log10(signal / noise) if signal and noise else -math.inf

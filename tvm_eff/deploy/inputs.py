"""What a loaded network is given, as plain arrays of the right shape and dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_eff.deploy.manifest import TensorInfo
from tvm_eff.errors import BundleError


class InputCheck:
    """Takes arrays for one input of a network.

    Parameters
    ----------
    info
        What the network takes.
    refuse_nan
        Whether a NaN is an error.
    """

    def __init__(self, info: TensorInfo, refuse_nan: bool) -> None:
        self._info = info
        self._refuse_nan = refuse_nan and np.issubdtype(np.dtype(info.dtype), np.floating)
        self._shape, self._dtype = info.shape, np.dtype(info.dtype)

    def array(self, given: Any) -> np.ndarray:
        """Return what was given as a plain array, where it lies.

        Raises
        ------
        BundleError
            It is not what the network takes.
        """
        array = given if type(given) is np.ndarray else self._as_array(given)
        if array.shape != self._shape:
            raise BundleError(f"the input {self._info} was given with the shape {array.shape}")
        if array.dtype != self._dtype:
            raise BundleError(
                f"the input {self._info} was given as {array.dtype}; "
                f"convert it: x.astype('{self._info.dtype}')"
            )
        if self._refuse_nan and np.isnan(array).any():
            count = int(np.isnan(array).sum())
            raise BundleError(
                f"the input {self._info} has {count} NaN, of which the network would make numbers"
            )
        return array

    def _as_array(self, given: Any) -> np.ndarray:
        """Return a subclass of numpy's array, or another library's tensor, as a plain array."""
        if isinstance(given, np.ma.MaskedArray):
            if np.ma.is_masked(given):
                raise BundleError(
                    f"the input {self._info} was given with masked values, which a network cannot "
                    "leave out; fill them: x.filled(0)"
                )
            return given.data
        if isinstance(given, np.ndarray):
            return given.view(np.ndarray)
        if isinstance(given, np.generic):
            return np.asarray(given)
        kind = f"{type(given).__module__}.{type(given).__name__}"
        if not hasattr(given, "__dlpack__"):
            raise BundleError(
                f"the input {self._info} was given as {kind}; give a numpy array or a tensor"
            )
        if getattr(given, "is_neg", None) is not None and given.is_neg():
            # PyTorch exports the memory as it is, and leaves out that its values are negated.
            given = given.resolve_neg()
        try:
            return np.from_dlpack(given)
        except Exception as error:  # whatever the other library raises
            raise BundleError(
                f"the input {self._info} was given as {kind}, which cannot be read as it is "
                f"({str(error).splitlines()[0]}); give a numpy array"
            ) from error

"""The file of golden inputs and outputs in a bundle."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from tvm_eff import paths
from tvm_eff.deploy.accuracy import allowed_error
from tvm_eff.deploy.manifest import TensorInfo, Validation
from tvm_eff.errors import BundleError

_ADVICE = "build or copy the bundle again"


@dataclass(frozen=True)
class Golden:
    """Inputs by name, and the outputs that PyTorch computes for them, in order."""

    inputs: Mapping[str, np.ndarray] = field(hash=False)
    outputs: Mapping[str, np.ndarray] = field(hash=False)


def write(path: Path, golden: Golden, validation: Validation) -> None:
    """Write the file; tensors are known by their place, as a model may name them anything.

    For ``tvm_eff_run``, which reads nothing else, it holds the largest error of each output that
    is allowed, and whether classes are compared; and all is stored as it is.
    """
    arrays: dict[str, Any] = {}
    for kind, tensors in (("input", golden.inputs), ("output", golden.outputs)):
        for index, array in enumerate(tensors.values()):
            arrays[f"{kind}_{index}"] = np.asarray(array, order="C")
    expected = list(golden.outputs.values())
    own = validation.reference_errors or (0.0,) * len(expected)
    tolerance = validation.tolerance
    allowed = [allowed_error(e, tolerance, o) for e, o in zip(expected, own, strict=True)]
    np.savez(
        path,
        allowed_errors=np.array(allowed, "float64"),
        same_class=np.array(validation.same_class is True),
        **arrays,
    )


def read(path: Path, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> Golden:
    """Read the file, which must hold exactly these tensors.

    Raises
    ------
    BundleError
        It does not.
    """
    with paths.open_regular(path, BundleError, _ADVICE) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return Golden(_named(inputs, archive, "input"), _named(outputs, archive, "output"))
        except (MemoryError, Exception) as error:  # of zip, its compressions, and numpy
            reason = str(error).strip() or type(error).__name__
            raise BundleError(
                f"{path} does not hold what the manifest says: {reason[:300]}; {_ADVICE}"
            ) from error


def _named(
    infos: tuple[TensorInfo, ...], archive: zipfile.ZipFile, kind: str
) -> Mapping[str, np.ndarray]:
    named = {}
    for index, info in enumerate(infos):
        with archive.open(f"{kind}_{index}.npy") as file:
            named[info.name] = _array(file, info, f"{kind} {index}")
    return MappingProxyType(named)


def _array(file: IO[bytes], info: TensorInfo, what: str) -> np.ndarray:
    """Read an array once its header is known to be what the manifest says."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
    if shape != info.shape or str(dtype) != info.dtype or dtype.hasobject:
        raise ValueError(f"{what} is {shape} {dtype} instead of {info}")
    # No more is read, and no more memory taken, than there is.
    count = math.prod(shape)
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"{what} is cut short")
    flat = np.frombuffer(content, dtype).copy()
    return flat.reshape(shape, order="F" if fortran_order else "C")

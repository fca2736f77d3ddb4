"""The file of golden inputs and outputs in a bundle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tvm_eff.deploy.manifest import TensorInfo
from tvm_eff.errors import BundleError


@dataclass(frozen=True)
class Golden:
    """Inputs by name, and the outputs that PyTorch computes for them, in order."""

    inputs: Mapping[str, np.ndarray] = field(hash=False)
    outputs: Mapping[str, np.ndarray] = field(hash=False)


def write(path: Path, golden: Golden) -> None:
    """Write the file; tensors are known by their place, as a model may name them anything."""
    arrays: dict[str, Any] = {}
    for index, array in enumerate(golden.inputs.values()):
        arrays[f"input_{index}"] = array
    for index, array in enumerate(golden.outputs.values()):
        arrays[f"output_{index}"] = array
    np.savez(path, **arrays)


def read(path: Path, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> Golden:
    """Read the file, which must hold exactly these tensors.

    Raises
    ------
    BundleError
        It does not.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Golden(_named(inputs, arrays, "input"), _named(outputs, arrays, "output"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"{path} does not hold what the manifest says: {error}; build the bundle again"
        ) from error


def _named(
    infos: tuple[TensorInfo, ...], arrays: Mapping[str, np.ndarray], kind: str
) -> Mapping[str, np.ndarray]:
    named = {}
    for index, info in enumerate(infos):
        array = arrays[f"{kind}_{index}"]
        if array.shape != info.shape or str(array.dtype) != info.dtype:
            raise ValueError(f"{kind} {index} is {array.shape} {array.dtype} instead of {info}")
        named[info.name] = array
    return MappingProxyType(named)

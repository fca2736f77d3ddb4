"""The plan of a native library as a file beside it, for tools: the library itself has it in C."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from tvm_eff import paths, strict
from tvm_eff.deploy.native.arena import ALIGNMENT
from tvm_eff.deploy.native.plan import Copy, KernelCall, Plan, PlannedTensor
from tvm_eff.errors import BundleError
from tvm_eff.strict import Count

WEIGHTS = ".tvm_eff.weights"
"""The section of a library that holds its constants, one after the other, each aligned."""

_MOST_BYTES = 64 << 20
_ADVICE = "build or copy the bundle again"


@dataclass(frozen=True)
class Weight:
    """A constant, as kernels read it.

    Attributes
    ----------
    at
        At which byte of the section it begins.
    shape, dtype
        What it looks like.
    """

    at: Count
    shape: tuple[Count, ...]
    dtype: str


@dataclass(frozen=True)
class StoredPlan:
    """A :class:`tvm_eff.deploy.native.plan.Plan` whose constants lie in the library.

    Attributes
    ----------
    tensors, calls, copies, at_load, arena_bytes, live_bytes
        The plan's.
    weights
        Where its constants lie.
    """

    tensors: tuple[PlannedTensor, ...]
    calls: tuple[KernelCall, ...]
    copies: tuple[Copy, ...]
    at_load: Count
    weights: tuple[Weight, ...]
    arena_bytes: Count
    live_bytes: Count


def weight_offsets(constants: Sequence[np.ndarray]) -> list[int]:
    """Return where each constant begins in the section."""
    offsets, end = [], 0
    for each in constants:
        offsets.append(end + -end % ALIGNMENT)
        end = offsets[-1] + each.nbytes
    return offsets


def write(plan: Plan, path: Path) -> None:
    """Write the file."""
    placed = zip(weight_offsets(plan.constants), plan.constants, strict=True)
    weights = tuple(Weight(at, each.shape, str(each.dtype)) for at, each in placed)
    stored = StoredPlan(
        tensors=plan.tensors,
        calls=plan.calls,
        copies=plan.copies,
        at_load=plan.at_load,
        weights=weights,
        arena_bytes=plan.arena_bytes,
        live_bytes=plan.live_bytes,
    )
    path.write_text(json.dumps(asdict(stored)) + "\n", encoding="utf-8")


def read(path: Path) -> StoredPlan:
    """Read the file.

    Raises
    ------
    BundleError
        It cannot be read, or is damaged.
    """
    content = paths.read_regular(path, _MOST_BYTES, BundleError, _ADVICE)
    data = strict.decode_json(content, where=path, error=BundleError, advice=_ADVICE)
    return strict.convert(
        data, StoredPlan, where=path, error=BundleError, advice=_ADVICE, complete=True
    )


def read_weights(library: Path, stored: StoredPlan) -> list[np.ndarray]:
    """Return a library's constants, whatever processor the library is for.

    Raises
    ------
    BundleError
        The library has them not.
    """
    try:
        with library.open("rb") as file:
            section = ELFFile(file).get_section_by_name(WEIGHTS)
            content = b"" if section is None else section.data()
        return [_array(content, each) for each in stored.weights]
    except (ELFError, OSError, ValueError, TypeError) as error:
        raise BundleError(f"{library} has not the weights of its plan; {_ADVICE}") from error


def _array(content: bytes, weight: Weight) -> np.ndarray:
    dtype = np.dtype(weight.dtype)
    count = int(np.prod(weight.shape, dtype=np.int64))
    return np.frombuffer(content, dtype, count, weight.at).reshape(weight.shape)

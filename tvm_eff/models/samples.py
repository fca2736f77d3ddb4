"""A user's own data, as inputs of a network: images, arrays, or what a function yields."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff.errors import UsageError, require_kind
from tvm_eff.models.program import first_line, location_of
from tvm_eff.models.source import attribute_of
from tvm_eff.paths import short
from tvm_eff.tensors import TensorSpec

_KINDS = "give a folder of images, an .npz or .npy file, or FILE.py:FUNCTION"
_IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_LABELS = "labels"


@dataclass(frozen=True)
class Sample:
    """One set of inputs.

    Attributes
    ----------
    name
        What messages call it.
    inputs
        The inputs in order.
    label
        Its class, one of each row of a batch; None if nobody says.
    """

    name: str
    inputs: tuple[np.ndarray, ...]
    label: np.ndarray | None = None


Samples = str | Path | Callable[[], Iterable[Any]]
"""Where samples are: a path or ``FILE.py:FUNCTION``, or such a function itself."""


def read_samples(
    data: Samples, specs: Sequence[TensorSpec], names: Sequence[str]
) -> Iterator[Sample]:
    """Read data one by one; nothing is read before it is asked for.

    Parameters
    ----------
    data
        A folder of images, for a network that takes bytes: they are resized to its extents, and
        sub-folders are classes, in alphabetical order. Or an ``.npz`` file with an array of
        samples for each input, by its name or in order, and ``labels`` if there are any. Or
        ``FILE.py:FUNCTION``: what it returns is iterated over; each element is one array, or a
        sequence of arrays, one for each input and perhaps a label after them. Or the function
        itself.
    specs, names
        What the network takes.

    Raises
    ------
    UsageError
        It cannot be read, holds nothing, or something that the network does not take.
    ModelError
        The function's file cannot be imported.
    """
    if not callable(data):
        require_kind("the validation data", data, str, os.PathLike)
    found = _of_function(data, specs) if callable(data) else _reader(str(data), specs, names)
    first = next(found, None)
    if first is None:
        raise UsageError(f"{source_of(data)} holds no samples; {_KINDS}")
    yield first
    yield from found


def source_of(data: Samples) -> str:
    """Return what a manifest calls the data: no path of this machine."""
    return getattr(data, "__name__", "a function") if callable(data) else Path(data).name


def _reader(data: str, specs: Sequence[TensorSpec], names: Sequence[str]) -> Iterator[Sample]:
    path = Path(data)
    if ":" in data and not path.exists():
        found = attribute_of(data)
        if not callable(found):
            raise UsageError(f"{data} is a {type(found).__name__}; name a function")
        return _of_function(found, specs)
    if not path.exists():
        raise UsageError(f"there is no data {short(path)}; {_KINDS}")
    if path.is_dir():
        return _of_folder(path, specs)
    if path.suffix in (".npz", ".npy"):
        return _of_arrays(path, specs, names)
    raise UsageError(f"{short(path)} is no data that can be read; {_KINDS}")


def _of_folder(folder: Path, specs: Sequence[TensorSpec]) -> Iterator[Sample]:
    from PIL import Image

    spec = specs[0] if len(specs) == 1 else TensorSpec((), "")
    if len(spec.shape) != 4 or spec.dtype != "uint8" or spec.shape[0] != 1:
        raise UsageError(
            f"{short(folder)} is a folder of images, which is for a model that takes one image of "
            "bytes; say how the model's input is made of bytes: "
            "--preprocess mean=...,std=...,layout=NHWC,dtype=uint8"
        )
    channels_last = spec.shape[3] in (1, 3)
    height, width, channels = spec.shape[1:] if channels_last else (*spec.shape[2:], spec.shape[1])
    classes = sorted(each.name for each in folder.iterdir() if each.is_dir())
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _IMAGES:
            continue
        try:
            with Image.open(path) as image:
                pixels = image.convert("L" if channels == 1 else "RGB").resize((width, height))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"{short(path)} cannot be read as an image: {error}") from error
        array = np.asarray(pixels, "uint8").reshape(1, height, width, channels)
        inside = path.relative_to(folder).parts
        label = np.array([classes.index(inside[0])]) if len(inside) > 1 else None
        given = array if channels_last else np.ascontiguousarray(array.transpose(0, 3, 1, 2))
        yield Sample(str(Path(*inside)), (given,), label)


def _of_arrays(path: Path, specs: Sequence[TensorSpec], names: Sequence[str]) -> Iterator[Sample]:
    try:
        arrays = _arrays_in(path)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"{short(path)} cannot be read as arrays: {error}") from error
    labels = arrays.pop(_LABELS, None)
    if not {*names} <= {*arrays}:
        if len(arrays) != len(names):
            raise UsageError(
                f"{short(path)} holds {', '.join(arrays) or 'nothing'}; name an array for each "
                f"input, {', '.join(names)}, with a sample in each row, and '{_LABELS}' for classes"
            )
        arrays = dict(zip(names, arrays.values(), strict=True))
    rows = [
        _rows(arrays[name], spec, f"'{name}' of {short(path)}")
        for name, spec in zip(names, specs, strict=True)
    ]
    counts = {len(each) for each in rows} | ({len(labels)} if labels is not None else set())
    if len(counts) != 1:
        raise UsageError(
            f"the arrays of {short(path)} have {', '.join(map(str, sorted(counts)))} samples; "
            "give as many of each"
        )
    for number, inputs in enumerate(zip(*rows, strict=True)):
        label = None if labels is None else _label(labels[number], f"label {number}")
        yield Sample(f"sample {number}", inputs, label)


def _arrays_in(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npy":
        return {path.stem: np.load(path, allow_pickle=False)}
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _rows(array: np.ndarray, spec: TensorSpec, what: str) -> np.ndarray:
    """Return an array of samples; those of one row may lie in it without a batch of their own."""
    if str(array.dtype) == spec.dtype:
        if array.shape[1:] == spec.shape:
            return array
        if spec.shape and spec.shape[0] == 1 and array.shape[1:] == spec.shape[1:]:
            return array[:, None]
    raise UsageError(
        f"{what} is {_size(array.shape)} {array.dtype}; give samples of "
        f"{_size(spec.shape)} {spec.dtype}, one in each row"
    )


def _of_function(
    function: Callable[[], Iterable[Any]], specs: Sequence[TensorSpec]
) -> Iterator[Sample]:
    elements = _elements(function)
    for number, given in enumerate(elements):
        yield _sample(f"sample {number} of {source_of(function)}", given, specs)


def _elements(function: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    try:
        yield from function()
    except Exception as error:  # whatever the user's code raises
        raise UsageError(
            f"{source_of(function)} failed: {type(error).__name__}: {first_line(error)}"
            f"{location_of(error)}"
        ) from error


def _sample(name: str, given: Any, specs: Sequence[TensorSpec]) -> Sample:
    parts = list(given) if isinstance(given, tuple | list) else [given]
    label = None
    if len(parts) == len(specs) + 1:
        label = _label(parts.pop(), f"the label of {name}")
    if len(parts) != len(specs):
        raise UsageError(
            f"{name} has {len(parts)} arrays; give {len(specs)}, and a label after them if there "
            "is one"
        )
    arrays = tuple(np.asarray(each) for each in parts)
    for array, spec in zip(arrays, specs, strict=True):
        if array.shape != spec.shape or str(array.dtype) != spec.dtype:
            raise UsageError(
                f"{name} is {_size(array.shape)} {array.dtype}; the network takes "
                f"{_size(spec.shape)} {spec.dtype}"
            )
    return Sample(name, arrays, label)


def _label(given: Any, what: str) -> np.ndarray:
    label = np.atleast_1d(np.asarray(given))
    if label.dtype.kind not in "iu":
        raise UsageError(f"{what} is of {label.dtype}; give the number of a class")
    return label


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one"

"""A library on a user's own data: is it PyTorch's, and how often is its class the right one?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tvm_eff.deploy.manifest import DataValidation
from tvm_eff.deploy.validate import UndecidedError, are_class_scores, case_of, compare
from tvm_eff.errors import ModelError, UsageError, ValidationError
from tvm_eff.tensors import network_tolerance

if TYPE_CHECKING:
    from tvm_eff.deploy.accuracy import Case
    from tvm_eff.device import Device
    from tvm_eff.models import Program, Sample


def validate_on_data(
    device: Device,
    library: Path,
    program: Program,
    samples: Iterable[Sample],
    dtype: str,
    source: str,
    done: Callable[[int], None],
    *,
    tolerance: float | None = None,
    original: Program | None = None,
) -> DataValidation:
    """Run a library's ``main`` on samples, compare with PyTorch, and count right classes.

    Parameters
    ----------
    device
        An open device that the library was compiled for.
    library
        The library.
    program
        The network in PyTorch.
    samples
        At least one.
    dtype
        What the library computes in.
    source
        What the manifest calls the data.
    done
        Told how many samples are done.
    tolerance
        The largest error allowed; None for what :func:`tvm_eff.tensors.network_tolerance` says.
    original
        The network whose classes are the ones to agree with, before it was quantized; None for
        `program`.

    Raises
    ------
    ValidationError
        An output differs by more than is allowed, or PyTorch's is NaN; the message names the
        sample.
    UsageError
        A label is no class of the network, or only some samples have one.
    ExecutionError, DeviceError
        As for :meth:`tvm_eff.device.Device.run`.
    """
    largest, count = 0.0, 0
    allowed = network_tolerance(dtype) if tolerance is None else tolerance
    same, right, pytorchs = [], [], []
    for count, sample in enumerate(samples, 1):
        case = _case_of(program, sample)
        actual, _ = device.run(library, case.inputs, keep=True)
        with suppress(UndecidedError):
            what = f"{library}, {sample.name}"
            largest = max(largest, compare(actual, case, allowed, what, dtype=dtype))
        ours = actual[0]
        theirs = case.expected[0] if original is None else original.run(sample.inputs)[0]
        if are_class_scores(theirs):
            same += list(ours.argmax(1) == theirs.argmax(1))
        if sample.label is not None:
            _require_classes(sample, theirs)
            right += list(ours.argmax(1) == sample.label)
            pytorchs += list(theirs.argmax(1) == sample.label)
        if bool(right) != (sample.label is not None):
            raise UsageError(f"{sample.name} has no label, and others of {source} have one")
        done(count)
    return DataValidation(
        source=source,
        samples=count,
        largest_error=largest,
        same_class=_share(same),
        top1=_share(right),
        pytorch_top1=_share(pytorchs),
    )


def _case_of(program: Program, sample: Sample) -> Case:
    try:
        return case_of(program, sample.inputs)
    except ModelError as error:
        raise ValidationError(f"{sample.name}: {error}") from error


def _require_classes(sample: Sample, scores: np.ndarray) -> None:
    assert sample.label is not None
    if not are_class_scores(scores):
        raise UsageError(
            f"{sample.name} has a label, and the first output of the model is no row of class "
            f"scores: it is {' x '.join(map(str, scores.shape))}; leave the labels out"
        )
    rows, classes = scores.shape
    if sample.label.shape != (rows,):
        raise UsageError(
            f"{sample.name} has {sample.label.size} labels for {rows} rows of class scores"
        )
    if sample.label.min() < 0 or sample.label.max() >= classes:
        raise UsageError(
            f"the label {sample.label.max()} of {sample.name} is none of the model's {classes} "
            "classes, which are counted from 0"
        )


def _share(found: list[bool]) -> float | None:
    return float(np.mean(found)) if found else None

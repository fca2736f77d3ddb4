"""Does a library compute what PyTorch computes?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tvm_eff.deploy.accuracy import Case, wrong_channel
from tvm_eff.deploy.manifest import Validation
from tvm_eff.errors import ValidationError
from tvm_eff.tensors import MIXED, network_tolerance, relative_error, validation_inputs

if TYPE_CHECKING:
    from tvm_eff.device import Device, Measurement, MeasureOptions
    from tvm_eff.models import Program


class UndecidedError(ValidationError):
    """What differs from PyTorch is what rounding decides: the inputs say nothing of a library.

    An all-black image leaves nothing but rounding to a normalisation, and the largest of many
    equal values is any of them.
    """


_BRIGHT = 2
"""The number of the inputs with values from 0 to 255."""


def validation_cases(
    program: Program, examples: Sequence[np.ndarray] | None, count: int
) -> list[Case]:
    """Return `count` inputs to validate on, the examples before them, and PyTorch's outputs.

    Values from 0 to 255 that PyTorch does not take, or makes NaN of, are left out.
    """
    specs = program.network.inputs
    inputs = [validation_inputs(specs, number) for number in range(count)]
    bright = inputs.pop(_BRIGHT) if count > _BRIGHT else None
    state = list(program.network.state.values())
    if examples is not None:
        inputs.insert(0, [*examples, *state])
    elif state and inputs:
        # The first ones go into the bundle, and say where to start from.
        inputs[0][-len(state) :] = state
    cases = [case_of(program, each) for each in inputs]
    if bright is not None:
        with suppress(Exception):  # whatever the user's code raises
            cases.append(replace(case_of(program, bright), is_bright=True))
    return cases


def case_of(program: Program, inputs: Sequence[np.ndarray]) -> Case:
    """Return inputs with what PyTorch computes for them, in single and in double precision.

    Raises
    ------
    ModelError
        As for :meth:`tvm_eff.models.Program.run`.
    """
    expected = program.run(inputs)
    return Case(
        inputs,
        expected,
        program.run_in_double_precision(inputs),
        moved=cache(partial(program.moved_by_rounding, inputs, expected)),
        by_chance=cache(partial(program.moved_by_chance, inputs, expected)),
    )


def validation(
    device: Device,
    library: Path,
    cases: Sequence[Case],
    dtype: str,
    measure: MeasureOptions | None = None,
    tolerance: float | None = None,
) -> tuple[Validation, Measurement | None, list[Case]]:
    """Validate a library whose activations are stored as `dtype`, as :func:`validate` does.

    Half precision moves every output a little, so that two close class scores may change
    places: in float16 the highest one must be PyTorch's, for every input. Where only some
    layers are in float16, what may be lost was measured when they were chosen. That half
    precision is not up to values from 0 to 255 is no error but is said. A quantized network has
    a tolerance of its own; otherwise it is that of :func:`tvm_eff.tensors.network_tolerance`.

    Returns
    -------
    tuple
        What the bundle's manifest says of it, the measurement if one was asked for, and the
        inputs that decided it.

    Raises
    ------
    ValidationError
        An output differs by more than :func:`tvm_eff.tensors.network_tolerance` allows, or
        is of another class.
    ExecutionError, DeviceError
        As for :meth:`tvm_eff.device.Device.run`.
    """
    classes = dtype == "float16"
    tolerance = network_tolerance(dtype) if tolerance is None else tolerance
    halves = dtype in ("float16", MIXED)
    bright = [each for each in cases if halves and each.is_bright]
    cases = [each for each in cases if not (halves and each.is_bright)]
    error, measured, cases = validate(
        device, library, cases, tolerance, measure, dtype=dtype, classes=classes
    )
    limit = _overflow(bright) if dtype == MIXED else None
    try:
        if bright and limit is None:
            most, _, bright = validate(
                device, library, bright, tolerance, dtype=dtype, classes=classes
            )
            cases, error = [*cases, *bright], max(error, most)
    except ValidationError as reason:
        limit = str(reason).partition(": ")[2]
    if error > tolerance:
        # Of values halfway between two integers: the bundle's own inputs may have some too.
        every = range(len(cases[0].expected))
        tolerance = max(each.allowed(index, tolerance, error) for each in cases for index in every)
    compared = classes and any(map(are_class_scores, cases[0].expected))
    of_each_case = [each.reference_errors() for each in cases if each.exact is not None]
    found = Validation(
        tolerance,
        error,
        len(cases),
        device.where,
        dtype,
        compared or None,
        reference_errors=tuple(map(max, zip(*of_each_case, strict=True))),
        half_precision_limit=limit,
    )
    return found, measured, cases


def _overflow(bright: Sequence[Case]) -> str | None:
    """Say that float16 is not up to values from 0 to 255, where the reference itself is not."""
    for case in bright:
        for index, each in enumerate(case.expected):
            strange = int(np.count_nonzero(~np.isfinite(each))) if each.dtype.kind == "f" else 0
            if strange:
                return f"{strange} of the {each.size} values of output {index} are NaN or infinite"
    return None


def validate(
    device: Device,
    library: Path,
    cases: Sequence[Case],
    tolerance: float,
    measure: MeasureOptions | None = None,
    *,
    dtype: str = "float32",
    classes: bool = False,
) -> tuple[float, Measurement | None, list[Case]]:
    """Run a library's ``main`` on several inputs and compare with what is expected.

    The library stays on the device: see the device's ``run``.

    Parameters
    ----------
    device
        An open device that the library was compiled for.
    library
        The library.
    cases
        What to run it on, and what is expected.
    tolerance
        The largest error allowed, as a fraction of the spread of the expected output.
    measure
        Whether and how to measure the first run.
    dtype
        What the library computes in.
    classes
        Whether the highest of class scores must be the expected one.

    Returns
    -------
    tuple
        The largest error found, the measurement if there is one, and the inputs that decided:
        those with nothing that differs by rounding alone.

    Raises
    ------
    ValidationError
        An output differs by more than the tolerance, or it is rounding that decides it for all
        inputs; the message says which.
    ExecutionError, DeviceError
        As for :meth:`tvm_eff.device.Device.run`.
    """
    if not cases:
        raise ValueError("validating with no inputs would say nothing")
    largest, measured = 0.0, None
    decided: list[Case] = []
    undecided: UndecidedError | None = None
    for index, case in enumerate(cases):
        actual, measurement = device.run(
            library, case.inputs, measure=measure if index == 0 else None, keep=True
        )
        measured = measured or measurement
        what = f"{library}, input {index}"
        try:
            error = compare(actual, case, tolerance, what, dtype=dtype, classes=classes)
        except UndecidedError as reason:
            undecided = undecided or reason
            continue
        decided.append(case)
        largest = max(largest, error)
    if undecided is not None and not decided:
        raise undecided
    return largest, measured, decided


def compare(
    actual: Sequence[np.ndarray],
    case: Case,
    tolerance: float,
    what: str,
    *,
    dtype: str = "float32",
    classes: bool = False,
) -> float:
    """Return the largest error of any output.

    Parameters
    ----------
    actual
        The outputs in order.
    case
        What is expected, and how far PyTorch itself is off that.
    tolerance
        The largest error allowed; of an output that PyTorch is farther off, a few times that.
    what
        Names the run in messages.
    dtype
        What it was computed in.
    classes
        Whether the highest of class scores must be the expected one.

    Raises
    ------
    ValidationError
        There are more or fewer outputs, or one differs by more than the tolerance, as a whole
        or in a channel, or is of another class.
    UndecidedError
        All that differs is what rounding decides.
    """
    expected = case.expected
    if len(actual) != len(expected):
        raise ValidationError(
            f"{what}: {len(actual)} outputs where {len(expected)} are expected; the library "
            "belongs to another model: build it again"
        )
    errors = [_error(a, e) for a, e in zip(actual, expected, strict=True)]
    undecided = []
    for index, error in enumerate(errors):
        allowed = case.allowed(index, tolerance, error)
        if error <= allowed:
            continue
        wrong = (
            f"{what}: output {index} is wrong: {_difference(actual[index], expected[index])}, "
            f"where an error of {allowed:.1e} is allowed"
        )
        if dtype != "float32" or not case.decided_by_rounding(index, actual[index]):
            raise ValidationError(wrong)
        undecided.append((index, wrong))
    for index, exact in enumerate(case.exact or ()):
        found = wrong_channel(actual[index], expected[index], exact, dtype)
        if found is not None and index not in dict(undecided):
            raise ValidationError(f"{what}: output {index} is wrong: {found}")
    if undecided:
        raise UndecidedError(
            f"{undecided[0][1]}; PyTorch's own is as far off when it rounds otherwise, so that "
            "this input decides nothing: give inputs that the network was made for"
        )
    for index, scores in enumerate(expected if classes else []):
        if are_class_scores(scores):
            _require_same_classes(actual[index], scores, f"{what}: output {index}")
    return max(errors, default=0.0)


def are_class_scores(output: np.ndarray) -> bool:
    """Whether an output looks like scores of several classes, a row for each input."""
    return output.ndim == 2 and output.shape[1] > 1


def _require_same_classes(actual: np.ndarray, expected: np.ndarray, what: str) -> None:
    found, wanted = actual.argmax(axis=1), expected.argmax(axis=1)
    differing = np.flatnonzero(found != wanted)
    if not differing.size:
        return
    row = int(differing[0])
    first, second = expected[row, wanted[row]], expected[row, found[row]]
    margin = float(first - second) / (float(np.ptp(expected)) or 1.0)
    raise ValidationError(
        f"{what} is of another class: the highest score is that of class {found[row]} instead of "
        f"{wanted[row]}, which is ahead by {margin:.1e} of the spread in PyTorch's float32; "
        "float16 cannot tell them apart: use float32 for this model"
    )


def _error(actual: np.ndarray, expected: np.ndarray) -> float:
    return relative_error(actual, expected) if actual.dtype == expected.dtype else float("inf")


def _difference(actual: np.ndarray, expected: np.ndarray) -> str:
    if actual.shape != expected.shape:
        return f"its shape is {actual.shape} instead of {expected.shape}"
    if actual.dtype != expected.dtype:
        return f"its dtype is {actual.dtype} instead of {expected.dtype}"
    strange = int(np.count_nonzero(np.isfinite(actual) != np.isfinite(expected)))
    if strange:
        return f"{strange} of its {actual.size} values are NaN or infinite, or should be"
    return f"its largest error is {relative_error(actual, expected):.1e} of the output's spread"

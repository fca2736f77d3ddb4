"""Is a candidate's result right? The measures that the product is held to as well."""

from collections.abc import Sequence

import numpy as np

from tvm_eff.tensors import (
    TOLERANCE,
    TensorSpec,
    kernel_tolerance,
    random_inputs,
    relative_error,
)

__all__ = ["TOLERANCE", "kernel_error", "kernel_inputs", "kernel_tolerance"]

_BYTES = ("int8", "uint8")

_SCALES = (-13.0, -7.0)
"""Powers of two of scales that bring sums of products of bytes to bytes, some beyond the limits."""

_SMALL = 2.0**-4
"""Brings sums of up to some thousand products of normal values to a few units."""

_MOST_TIES = 1e-4
"""The share of rounded values that may be the other one of two integers.

Where numbers are computed in float32 before they are rounded, as for a hard swish, a fused
multiply-add decides one in some hundred thousand.
"""


def kernel_inputs(specs: Sequence[TensorSpec]) -> list[np.ndarray]:
    """Return the inputs that candidates of a kernel are checked with.

    Beside bytes, which have their whole range, floats are scales: normal ones would make
    every result the least or the largest byte. What kernels of float16 read beside their first
    input, weights and biases most often, is small, as in a network: with normal ones the sums
    before a ReLU6 would be so large that rounding any of them is more than a result may be off.
    """
    inputs = random_inputs(specs)
    if any(spec.dtype == "float16" for spec in specs):
        kinds = [np.dtype(spec.dtype).kind for spec in specs]
        inputs[1:] = [
            (each * _SMALL).astype(each.dtype) if kind == "f" else each
            for each, kind in zip(inputs[1:], kinds[1:], strict=True)
        ]
    if not any(spec.dtype in _BYTES for spec in specs):
        return inputs
    rng = np.random.default_rng(1)
    for place, spec in enumerate(specs):
        if spec.dtype in _BYTES:
            limits = np.iinfo(spec.dtype)
            # Weights are symmetric, which kernels may rely on.
            least = max(limits.min, -127)
            inputs[place] = rng.integers(least, limits.max + 1, spec.shape).astype(spec.dtype)
        elif spec.dtype == "float32":
            inputs[place] = np.exp2(rng.uniform(*_SCALES, spec.shape)).astype("float32")
    return inputs


def kernel_error(actual: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Return the error of a kernel's output, as a fraction of the spread of `expected`.

    Of bytes, a few that are one off are right. Numbers that a kernel computes in float16 may be
    off by half a step of 255, and rounding them makes that one: then all may be.

    Parameters
    ----------
    actual, expected
        The output, and what it should be.
    tolerance
        What :func:`kernel_tolerance` allows of the kernel.
    """
    if str(expected.dtype) in _BYTES and actual.shape == expected.shape:
        off = np.abs(actual.astype("int32") - expected.astype("int32"))
        share = _MOST_TIES if tolerance <= TOLERANCE else 1.0
        if off.max(initial=0) <= 1 and np.count_nonzero(off) <= max(1, share * off.size):
            return 0.0
    return relative_error(actual, expected)

"""How much an operator computes, and what rounding makes of it: for the proof of an import."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from tvm_eff import targets
from tvm_eff.frontend import SingleOperator
from tvm_eff.frontend.nodes import arguments_of, shape_of
from tvm_eff.targets import Target

_QUICKLY_RUN = 300_000_000
"""The most multiply-adds and elements of a network whose proof LLVM does not optimize.

Such kernels take less time to run four times than LLVM takes to make them fast: a network of 100
operators is proved in half the time.
"""

_ROUNDOFF = 2.0**-24
"""The largest relative error of one rounding to float32."""


def host_for(operators: Sequence[SingleOperator]) -> Target:
    """Return this machine, to compile for quickly or to run on quickly: what takes longer."""
    host = targets.load("host")
    if sum(_size(each) * _terms(each) for each in operators) > _QUICKLY_RUN:
        return host
    return replace(host, tvm={**host.tvm, "opt-level": 0})


def _size(operator: SingleOperator) -> int:
    """How many values an operator's results have."""
    result = operator.node.meta["val"]
    results = [result] if isinstance(result, torch.Tensor) else list(result)
    return sum(each.numel() for each in results if each is not None)


def _terms(operator: SingleOperator) -> int:
    """About how many values each of the result is made of."""
    sizes = [each.meta["val"].numel() for each in operator.node.all_input_nodes]
    name = getattr(operator.node.target, "__name__", "")
    if not name.startswith(("convolution", "mm", "addmm", "bmm")):
        return 1 + sum(sizes) // max(1, _size(operator))
    # Of a weight or a matrix, each value is used once for each place of the result.
    shape = operator.node.meta["val"].shape
    channels = int(shape[1] if name.startswith("convolution") else shape[-1])
    return max(1, max(sizes[1:], default=1) // max(1, channels))


def rounding(operator: SingleOperator) -> float:
    """Return what rounding makes of a sum, as a fraction of it: twice what is to be expected.

    Where all sums are near one another, as the means of bright maps, their spread does not say.
    Roundings are independent of one another, but for those of a map of one value: with each term
    the sum is rounded in the same direction, until it is twice as large.
    """
    terms = _terms(operator)
    return _ROUNDOFF * max(2 * math.sqrt(terms), _summed(operator) / 4)


def _summed(operator: SingleOperator) -> int:
    """How many values each value is divided by the sum of, or is the sum of; 0 for others."""
    node = operator.node
    name = getattr(node.target, "__name__", "")
    if name.startswith(("mean", "sum")):
        return _terms(operator)
    if name.startswith(("_softmax", "_log_softmax")):
        given = arguments_of(node)
        return shape_of(given["self"])[given["dim"]]
    if name.startswith("native_layer_norm"):
        return math.prod(arguments_of(node)["normalized_shape"])
    if name.startswith("native_group_norm"):
        given = arguments_of(node)
        return int(given["C"]) // int(given["group"]) * int(given["HxW"])
    return 0

"""Strassen's algorithm: its sums are those of a matrix product, its weights the ones it wants."""

from __future__ import annotations

import numpy as np
import pytest
import tvm

from tvm_eff.space.strassen_rewrite import (
    INPUTS,
    OUTPUTS,
    WEIGHTS,
    transform_weight,
    weight_function,
)


def test_seven_products_are_eight() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, 2)), rng.standard_normal((2, 2))
    products = [
        sum(c * left[at] for at, c in inputs.items())
        * sum(c * right[at] for at, c in weights.items())
        for inputs, weights in zip(INPUTS, WEIGHTS, strict=True)
    ]
    result = np.zeros((2, 2))
    for at, summed in OUTPUTS.items():
        result[at] = sum(c * products[i] for i, c in summed.items())
    np.testing.assert_allclose(result, left @ right, atol=1e-12)


@pytest.mark.parametrize("channels", [16, 20])
def test_the_library_sums_weights_as_the_tuner_does(channels: int) -> None:
    weight = np.random.default_rng(0).standard_normal((channels, 1, 1, 6)).astype("float32")
    expected = transform_weight(weight)
    function = weight_function(weight.shape, "float32").with_attr("global_symbol", "main")
    built = tvm.tirx.build(tvm.IRModule({"main": function}), target="llvm")
    result = tvm.runtime.tensor(np.zeros(expected.shape, "float32"))
    built["main"](tvm.runtime.tensor(weight), result)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)

"""Inputs to try a network on."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_eff.tensors import TensorSpec, random_inputs, validation_inputs, varied_inputs


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_inputs_are_arrays_of_their_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    spec = TensorSpec(shape, dtype)
    made = [random_inputs([spec]), *(validation_inputs([spec], n) for n in range(4))]
    for (array,) in [*made, *varied_inputs([spec]).values()]:
        assert isinstance(array, np.ndarray)
        assert (array.shape, str(array.dtype)) == (shape, dtype)

"""What a candidate does to the device must not be held against the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernels import HOST
from tvm import te, tirx

from tvm_eff.build import build_kernel
from tvm_eff.device import LocalDevice
from tvm_eff.errors import ExecutionError
from tvm_eff.space import structure
from tvm_eff.tune import Task
from tvm_eff.tune.measurer import measure


def function(*, backwards: bool = False) -> tirx.PrimFunc:
    """Return y = 2 x + 1; backwards it writes the tensor that it is given as its input."""
    x = te.placeholder((64,), name="x")
    y = te.compute((64,), lambda i: x[i] * 2.0 + 1.0, name="y")
    return te.create_prim_func([y, x] if backwards else [x, y])


def test_candidate_that_overwrites_its_input_spoils_itself_alone(tmp_path: Path) -> None:
    task = Task("double", function())
    x = np.arange(64, dtype="float32")
    right, spoiling = tmp_path / "right.so", tmp_path / "spoiling.so"
    build_kernel(structure.schedule(function()), HOST, right)
    build_kernel(structure.schedule(function(backwards=True)), HOST, spoiling)
    with LocalDevice(threads=1) as device:
        for _ in range(2):
            _, error = measure(device, task, right, [x], [2 * x + 1])
            assert error == 0
            with pytest.raises(ExecutionError, match="wrong result"):
                measure(device, task, spoiling, [x], [2 * x + 1])
        # One that spoils its input behind a right result is found out by the next.
        measure(device, task, right, [x], [2 * x + 1])
        device.call(spoiling, "main", [x], task.outputs, keep=True)
        _, error = measure(device, task, right, [x], [2 * x + 1])
        assert error == 0

"""What a candidate does to the device must not be held against the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from kernels import HOST
from tvm import te, tirx

from tvm_eff.codegen import build_kernel
from tvm_eff.device import LocalDevice
from tvm_eff.errors import ExecutionError
from tvm_eff.schedules import analysis
from tvm_eff.tensors import HALF_ROUNDOFF, TOLERANCE, random_inputs
from tvm_eff.tune import Task, worker
from tvm_eff.tune.runner import measure


def function(*, backwards: bool = False) -> tirx.PrimFunc:
    """Return y = 2 x + 1; backwards it writes the tensor that it is given as its input."""
    x = te.placeholder((64,), name="x")
    y = te.compute((64,), lambda i: x[i] * 2.0 + 1.0, name="y")
    return te.create_prim_func([y, x] if backwards else [x, y])


def halves() -> tirx.PrimFunc:
    """Return y = 2 x + 1, in half precision."""
    x = te.placeholder((64,), "float16", name="x")
    two, one = tirx.const(2, "float16"), tirx.const(1, "float16")
    return te.create_prim_func([x, te.compute((64,), lambda i: x[i] * two + one, name="y")])


def test_half_precision_may_differ_by_its_rounding_and_no_more(tmp_path: Path) -> None:
    task, library = Task("halves", halves()), tmp_path / "halves.so"
    x = random_inputs(task.inputs)
    [reference] = worker.reference(tvm.ir.save_json(task.module), task.inputs, task.outputs)
    assert reference.dtype == np.float16
    build_kernel(analysis.schedule(halves()), HOST, library)
    spread = np.ptp(reference.astype("float32"))
    off = reference.copy()
    with LocalDevice(threads=1) as device:
        _, error = measure(device, task, library, x, [reference])
        assert error <= 2 * HALF_ROUNDOFF
        off[0] += 2 * HALF_ROUNDOFF * spread
        measure(device, task, library, x, [off])
        off[0] += 4 * HALF_ROUNDOFF * spread
        with pytest.raises(ExecutionError, match=r"wrong result: .* \(allowed 0\.00195312\)"):
            measure(device, task, library, x, [off])


def test_values_near_one_another_may_differ_by_their_rounding(tmp_path: Path) -> None:
    task, library = Task("double", function()), tmp_path / "right.so"
    build_kernel(analysis.schedule(function()), HOST, library)
    x = 10 + np.arange(64, dtype="float32") / 1024
    off = 2 * x + 1
    off[0] += np.spacing(off[0])
    with LocalDevice(threads=1) as device:
        _, error = measure(device, task, library, [x], [off])
        assert 0 < error <= TOLERANCE
        off[0] *= np.float32(1 + 1e-5)
        with pytest.raises(ExecutionError, match="wrong result"):
            measure(device, task, library, [x], [off])


def test_candidate_that_overwrites_its_input_spoils_itself_alone(tmp_path: Path) -> None:
    task = Task("double", function())
    x = np.arange(64, dtype="float32")
    right, spoiling = tmp_path / "right.so", tmp_path / "spoiling.so"
    build_kernel(analysis.schedule(function()), HOST, right)
    build_kernel(analysis.schedule(function(backwards=True)), HOST, spoiling)
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

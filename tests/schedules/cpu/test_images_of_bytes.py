"""A network's input becomes bytes channels-last: in vectors, with the padding around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
from quantized_networks import quantized
from torch import nn

from tvm_eff import schedules, targets, tune
from tvm_eff.codegen.compile import compile_kernel
from tvm_eff.tune import Task
from tvm_eff.tune.checker import kernel_inputs

HOST = targets.load("host")


def conversion(padding: int) -> Task:
    """Return the kernel in front of a convolution of an image of 21 x 35."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 16, 3, padding=padding)
    found = tune.extract(quantized(layer, (1, 3, 21, 35)).lowered.mod)
    (task,) = [each for each in found if each.outputs[0].dtype == "uint8"]
    return task


def run(module: tvm.runtime.Module, task: Task, inputs: list[np.ndarray]) -> np.ndarray:
    result = tvm.runtime.tensor(np.zeros(task.outputs[0].shape, task.outputs[0].dtype))
    module["main"](*map(tvm.runtime.tensor, inputs), result)
    return result.numpy()


@pytest.mark.parametrize("padding", [0, 1])
def test_bytes_of_an_image(padding: int) -> None:
    task = conversion(padding)
    inputs = [10 * each for each in kernel_inputs(task.inputs)]
    expected = run(tvm.tirx.build(task.module, target="llvm"), task, inputs)
    assert expected.min() < expected.max()
    (candidate,) = schedules.candidates(task.func, HOST)
    built = compile_kernel(schedules.apply(task.func, candidate, HOST), HOST)
    np.testing.assert_array_equal(run(built, task, inputs), expected)


def test_positions_are_rounded_in_vectors() -> None:
    """A vector of one position's channels would test each for padding."""
    task, target = conversion(1), targets.load("rasp4")
    (candidate,) = schedules.candidates(task.func, target)
    code = compile_kernel(schedules.apply(task.func, candidate, target), target)
    # On Arm a number is rounded by adding 1.5 * 2^23.
    additions = [each for each in str(code.inspect_source("s")).splitlines() if "\tfadd\t" in each]
    vectors = [each for each in additions if ".4s" in each]
    assert len(vectors) > 4 * (len(additions) - len(vectors))

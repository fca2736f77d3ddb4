"""Lowering from the imported network to fused kernels: the kernels, and their correctness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from kernels import HOST, lowered
from torch import nn
from tvm import relax

from tvm_eff import models, tune
from tvm_eff.deploy.library import build_library
from tvm_eff.device import LocalDevice
from tvm_eff.passes import RelaxNetwork, write_slices_in_place
from tvm_eff.tensors import TOLERANCE, relative_error

IMAGE = (1, 3, 224, 224)


@pytest.fixture(scope="module")
def squeezenet() -> RelaxNetwork:
    return lowered(models.create("squeezenet1_1"), IMAGE)


def calls(network: RelaxNetwork) -> list[str]:
    """Return the kernels that ``main`` calls, in order."""
    found: list[str] = []
    operators = [tvm.ir.Op.get(f"relax.{name}") for name in ("call_tir", "call_tir_inplace")]

    def visit(node: object) -> None:
        if isinstance(node, relax.Call) and node.op in operators:
            found.append(node.args[0].name_hint)

    relax.analysis.post_order_visit(network.mod["main"], visit)
    return found


def with_slices_in_place(network: RelaxNetwork) -> RelaxNetwork:
    """Return a network as in its library, with slices written in place."""
    return replace(network, mod=write_slices_in_place(network.mod))


def test_squeezenet_is_transposed_on_entry_and_exit_only(squeezenet: RelaxNetwork) -> None:
    names = calls(squeezenet)
    where = [index for index, name in enumerate(names) if "transpose" in name]
    assert where in ([0], [0, len(names) - 1])


def test_squeezenet_is_one_kernel_a_layer(squeezenet: RelaxNetwork) -> None:
    # Bias and ReLU are part of the convolution's kernel, and so is concatenation.
    kinds = Counter(
        next(kind for kind in ("conv2d", "max_pool2d", "mean", "transpose", "reshape") if kind in n)
        for n in calls(with_slices_in_place(squeezenet))
    )
    layers = {"conv2d": 26, "max_pool2d": 3, "mean": 1, "transpose": 1, "reshape": 1}
    assert kinds == layers


def test_parameters_are_evaluated_ahead(squeezenet: RelaxNetwork) -> None:
    # No kernel takes parameters only, and none prepares them at run time.
    main = squeezenet.mod["main"]
    parameters = set(main.params[len(squeezenet.inputs) :])
    assert len(parameters) == len(squeezenet.params) == 52

    def visit(node: object) -> None:
        if isinstance(node, relax.Call) and node.op == tvm.ir.Op.get("relax.call_tir"):
            assert not all(argument in parameters for argument in node.args[1]), node

    relax.analysis.post_order_visit(main, visit)
    assert [g.name_hint for g, f in squeezenet.mod.functions.items() if "params" in str(g)] == []


def test_weights_are_channels_last(squeezenet: RelaxNetwork) -> None:
    first = models.create("squeezenet1_1").get_parameter("features.0.weight").detach().numpy()
    np.testing.assert_array_equal(squeezenet.params[0], first.transpose(0, 2, 3, 1))


def test_kernels_that_are_equal_are_one_task(squeezenet: RelaxNetwork) -> None:
    tasks = tune.extract(squeezenet.mod)
    assert sum(task.calls for task in tasks) == len(calls(with_slices_in_place(squeezenet)))
    assert len({task.workload for task in tasks}) == len(tasks)
    # The expand layers of fire 2 and fire 3 are the same.
    assert max(task.calls for task in tasks) == 2
    work = [task.operations * task.calls for task in tasks]
    assert work == sorted(work, reverse=True)


class TwoBranches(nn.Module):
    """Two inputs and two outputs, one of which has another use."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = torch.relu(self.left(x)) + self.right(y)
        return both, torch.max_pool2d(both, 2)


def with_statistics(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Randomize statistics and weights of a batch norm."""
    with torch.no_grad():
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.normal_()
    return norm


def batch_norm(groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(8, 16, 3, bias=False, groups=groups),
        with_statistics(nn.BatchNorm2d(16)),
        nn.ReLU6(),
        nn.Conv2d(16, 8, 1),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[tuple[int, ...]]]] = {
    "batch_norm": (batch_norm, [(1, 8, 9, 9)]),
    "batch_norm_groups": (lambda: batch_norm(groups=8), [(1, 8, 9, 9)]),
    "batch_norm_first": (
        lambda: nn.Sequential(with_statistics(nn.BatchNorm2d(8)), nn.Conv2d(8, 4, 3)),
        [(2, 8, 9, 9)],
    ),
    "two_inputs_and_outputs": (TwoBranches, [(1, 3, 9, 9), (1, 3, 9, 9)]),
    "dropout_and_flatten": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 7 * 7, 10)
        ),
        [(1, 3, 9, 9)],
    ),
    "softmax": (lambda: nn.Sequential(nn.Linear(8, 10), nn.Softmax(1)), [(3, 8)]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_left_computes_what_pytorch_computes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, shapes = NETWORKS[name]
    model = make().eval()
    inputs = [torch.randn(*shape) for shape in shapes]
    with torch.no_grad():
        wanted = model(*inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)

    network = lowered(model, *shapes)
    library = tmp_path / "model.so"
    build_library(network, None, HOST, library)
    with LocalDevice() as device:
        outputs, _ = device.run(library, [x.numpy() for x in inputs])

    assert len(outputs) == len(wanted)
    for actual, expected in zip(outputs, wanted, strict=True):
        assert relative_error(actual, expected.numpy()) <= TOLERANCE

"""State that a module keeps comes in and goes out, and the module stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tvm_eff
from tvm_eff.errors import ModelError, UsageError
from tvm_eff.models import Network, network_of, trace
from tvm_eff.tensors import TensorSpec

X = TensorSpec((2, 3), "float32")


class Cell(nn.Module):
    """Assigns one buffer, writes in another, and only reads a third."""

    h: torch.Tensor
    count: torch.Tensor
    weight: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("h", torch.full((2, 3), 0.5))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("weight", torch.ones(3))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        self.h = torch.tanh(self.linear(x) + self.h * self.weight)
        self.count += 1
        return {"y": self.h * 2}


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell()

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.cell(x)["y"] * scale


def made(module: nn.Module | torch.export.ExportedProgram, *specs: TensorSpec) -> Network:
    return network_of(
        Network("net", module, specs),
        None,
        None,
        input_shapes=(),
        input_dtypes=(),
        weights=None,
        width=None,
        resolution=None,
        state=True,
    )


def test_a_module_without_state() -> None:
    with pytest.raises(UsageError, match="net keeps no state: it writes none of its buffers"):
        made(nn.Linear(3, 3).eval(), X)


def test_an_input_that_is_called_like_a_state() -> None:
    class Named(Cell):
        def forward(self, state_h: torch.Tensor) -> dict[str, torch.Tensor]:
            return super().forward(state_h)

    with pytest.raises(UsageError, match="an input with the name of a state, one of state_h"):
        made(Named().eval(), X)


def test_a_program_with_keywords() -> None:
    exported = torch.export.export(Cell().eval(), (), {"x": torch.ones(2, 3)})
    with pytest.raises(UsageError, match="by keywords or in lists"):
        made(exported, X)


def test_without_the_option_it_is_refused_and_unchanged(tmp_path: Path) -> None:
    module = Cell().eval()
    with pytest.raises(ModelError, match=r"state in its buffers 'h', 'count' .* --state"):
        tvm_eff.compile(module, torch.ones(2, 3), output=tmp_path)
    assert int(module.count) == 0
    assert torch.equal(module.h, torch.full((2, 3), 0.5))


def test_names_and_values() -> None:
    module = Nested().eval()
    network = made(module, X, TensorSpec((1,), "float32"))
    program = trace(network)
    assert program.inputs == ("x", "scale", "state_cell_h", "state_cell_count")
    assert program.outputs == ("output", "state_cell_h", "state_cell_count")
    assert int(network.state["state_cell_count"]) == 0
    np.testing.assert_array_equal(network.state["state_cell_h"], 0.5)
    assert int(module.cell.count) == 0


def test_a_program() -> None:
    """Of inner modules torch.export keeps only buffers that are written in place."""
    program = trace(made(torch.export.export(Cell().eval(), (torch.ones(2, 3),)), X))
    assert program.inputs == ("x", "state_h", "state_count")
    assert program.outputs == ("y", "state_h", "state_count")


def test_call_by_call_it_is_pytorchs(tmp_path: Path) -> None:
    module = Cell().eval()
    x = np.random.default_rng(0).standard_normal((3, 2, 3)).astype("float32")
    bundle = tvm_eff.compile(
        module,
        torch.from_numpy(x[0]),
        state=True,
        output=tmp_path,
        logs=tmp_path / "logs",
        measure=False,
    )
    names = [each.name for each in bundle.manifest.inputs]
    assert names == ["x", "state_h", "state_count"]
    state = [bundle.golden().inputs[name] for name in names[1:]]
    np.testing.assert_array_equal(state[0], 0.5)
    loaded = tvm_eff.load(bundle.folder)
    for each in x:
        y, *state = loaded(each, *state)
        with torch.no_grad():
            wanted = module(torch.from_numpy(each))["y"].numpy()
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)
    assert int(state[1]) == int(module.count) == 3

"""What a module keeps from call to call is never lost in silence, and stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tvm_eff import frontend
from tvm_eff.errors import ModelError
from tvm_eff.models import Network, trace
from tvm_eff.tensors import TensorSpec

SPEC = TensorSpec((2, 3), "float32")


class Keeping(nn.Module):
    h: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("h", torch.zeros(2, 3))


class Replaced(Keeping):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.h = self.h * 0.5 + x
        return self.h


class Written(Keeping):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.h.mul_(0.5).add_(x) * 1


class Attribute(nn.Module):
    kept: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = x if self.kept is None else self.kept + x
        return self.kept


class Counting(nn.Module):
    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class Closure(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        calls: list[int] = []

        def scale() -> int:
            calls.append(1)
            return len(calls)

        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale()


class Cached(nn.Module):
    """Keeps what it made for a shape, and what it returned last: no state."""

    grid: Any = None
    last: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.grid is None or self.grid.shape != x.shape:
            self.grid = torch.arange(3.0).expand_as(x)
        self.last = x + self.grid
        return self.last * 1


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 1


def decomposed(module: nn.Module) -> torch.export.ExportedProgram:
    return frontend.decompose(trace(Network("net", module.eval(), (SPEC,))))


@pytest.mark.parametrize("kind", [Replaced, Written])
@pytest.mark.parametrize("nested", [False, True])
def test_a_buffer_that_is_written(kind: type[nn.Module], nested: bool) -> None:
    module = kind()
    name = "inner.h" if nested else "h"
    with pytest.raises(ModelError, match=f"it keeps state in its buffer '{name}'"):
        decomposed(Outer(module) if nested else module)
    assert not module.get_buffer("h").any()


@pytest.mark.parametrize(
    ("kind", "hint"),
    [(Attribute, "'inner.kept'"), (Counting, "'inner.calls'"), (Closure, "register")],
)
def test_state_in_python(kind: type[nn.Module], hint: str) -> None:
    module = kind()
    with pytest.raises(ModelError, match=f"something else when it is called again .*{hint}"):
        decomposed(Outer(module))
    assert vars(module).keys() == vars(kind()).keys()


def test_a_cache_is_no_state() -> None:
    module = Outer(Cached())
    assert decomposed(module).graph_signature.user_inputs == ("x",)
    assert module.inner.grid is None


def test_random_numbers_are_named_as_such() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand(2, 3)

    with pytest.raises(ModelError, match="rand"):
        decomposed(Noisy())


def test_buffers_that_were_made_in_inference_mode() -> None:
    with torch.inference_mode():
        module = nn.BatchNorm2d(3).eval()
    with pytest.raises(ModelError, match="Inference tensors"):
        trace(Network("net", module, (TensorSpec((1, 3, 4, 4), "float32"),)))

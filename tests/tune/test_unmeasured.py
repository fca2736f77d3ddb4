"""Without a measurement, what is most promising and can be applied is chosen."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import tvm_eff
from tvm_eff.tensors import TOLERANCE


def test_the_most_promising_candidate_may_not_apply(tmp_path: Path) -> None:
    """A register tile larger than the product, with more than a bias behind it."""

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.linear(x) + h * 2)

    x = [torch.randn(2, 3), torch.randn(2, 3)]
    made = tvm_eff.compile(
        Cell().eval(), x, measure=False, logs=tmp_path / "logs", output=tmp_path / "dist"
    )
    assert made.error <= TOLERANCE

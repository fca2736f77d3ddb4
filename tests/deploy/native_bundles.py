"""Native bundles of a small network, and what a user runs of them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

import tvm_eff
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.deploy.manifest import Format
from tvm_eff.device import emulator_image

IMAGE = (1, 3, 12, 12)


class Scores(nn.Module):
    """Class scores, the highest one's place, and which are positive."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3))
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scores = self.head(self.features(x).mean((2, 3)))
        return scores, scores.argmax(1), scores > 0


def make(
    folder: Path,
    module: nn.Module | None = None,
    *,
    target: str = "host",
    form: Format = "so",
    name: str = "scores",
    shape: Sequence[int] = IMAGE,
) -> Bundle:
    """Compile a network without tuning it."""
    return tvm_eff.compile(
        (Scores() if module is None else module).eval(),
        torch.randn(*shape, generator=torch.Generator().manual_seed(1)),
        target=target,
        runtime="native",
        format=form,
        name=name,
        measure=False,
        proof=False,
        output=folder,
        logs=folder / "logs",
    )


def run(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(  # type: ignore[call-overload]
        [str(each) for each in words],
        **{"capture_output": True, "text": True, "timeout": 300, "check": False, **options},
    )


def on_board(bundle: Bundle) -> list[str | Path]:
    """Return the start of a command line on the bundle's emulated board."""
    emulator = bundle.manifest.target.emulator
    assert emulator is not None
    return [*emulator_image.emulator_command(emulator.arch), "-cpu", emulator.cpu]


def seal(folder: Path) -> None:
    """Write the checksums of files that a test has changed."""
    names = [each.name for each in sorted(folder.iterdir()) if each.name != "SHA256SUMS"]
    sums = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    lines = [f"{digest}  {name}\n" for digest, name in zip(sums, names, strict=True)]
    (folder / "SHA256SUMS").write_text("".join(lines))

"""``--size``: a library that is no larger than it may be, as fast as that allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tvm_eff
from tvm_eff.cli import tune
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.errors import BuildError, ModelError, UsageError

SHAPE = (1, 64, 14, 14)
WEIGHTS = 4 * (64 * 64 * 9 + 64)


def compiled(folder: Path, **options: Any) -> Bundle:
    torch.manual_seed(0)
    return tvm_eff.compile(
        nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()).eval(),
        torch.ones(SHAPE),
        target="rasp4",
        trials=6,
        output=folder / "dist",
        logs=folder / "logs",
        **options,
    )


@pytest.mark.parametrize("words", ["0", "8QB", "-1MB", "nan", "MB", "1e99GB"])
def test_what_is_no_size(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tune.main(["--target", "host", "--model", "squeezenet", f"--size={words}"])
    assert caught.value.code == 2
    assert "is not a size; write 8MB, 800kB or 8MiB" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "message"), [(0, "size is 0"), ("8MB", "size is a str")])
def test_what_is_no_number_of_bytes(tmp_path: Path, size: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compiled(tmp_path, size=size)


def test_the_weights_alone_are_larger(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"have 0\.15 MB if none is transformed.*may have 0\.10"):
        compiled(tmp_path, size=100_000)
    assert not list((tmp_path).rglob("*.json*"))


def test_a_bound(tmp_path: Path, emulator: None) -> None:
    with pytest.raises(BuildError, match=r"at least 0\.\d\d MB, 0\.\d\d MB of them code"):
        compiled(tmp_path, size=WEIGHTS + 2000)
    records = {path: path.read_bytes() for path in (tmp_path / "logs").rglob("*.json*")}
    assert records

    free = compiled(tmp_path)
    assert free.report is not None
    assert free.report.measured == 0
    (weight, *_) = free.manifest.weights
    assert (weight.algorithm, weight.model_bytes) == ("winograd4", WEIGHTS - 4 * 64)
    size = free.library.stat().st_size

    smaller = compiled(tmp_path, size=size - 1)
    assert smaller.library.stat().st_size < size

    most = WEIGHTS + 100_000
    small = compiled(tmp_path, size=most)
    assert small.report is not None
    assert {path: path.read_bytes() for path in records} == records
    assert small.report.measured == 0
    assert small.library.stat().st_size <= most
    assert {each.algorithm for each in small.manifest.weights} == {""}
    assert sum(each.bytes for each in small.manifest.weights) == WEIGHTS
    assert small.error <= 1e-5
    assert small.report.kernels_unbounded == free.report.kernels_after
    assert small.report.kernels_after > free.report.kernels_after
    rules = {each.rule for each in small.manifest.kernels.values()}
    assert "winograd" not in rules

    again = compiled(tmp_path, size=size)
    assert again.manifest.kernels == free.manifest.kernels

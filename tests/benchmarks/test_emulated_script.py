"""Compilations of a benchmark: in processes of their own, and what is taken from which."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from result_files import ROOT

import emulated  # isort: skip
import opencl  # isort: skip
import results_file  # isort: skip
from engines.compiled import Compiled, compile_apart

from tvm_eff.device import SelectedDevice
from tvm_eff.errors import BuildError, Error, ModelError

NETWORK = """
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
"""

DIES = """
import os

def net():
    os.abort()
"""


def compiled(candidates: int = 3, **figures: Any) -> Compiled:
    known: dict[str, Any] = {
        "bundle": ROOT,
        "where": "emulated x",
        "unit": "instructions",
        "cost": 70e6,
        "kernels_before": 800e6,
        "error": 1e-7,
        "seconds": 60.0,
        "priors": 0,
    }
    return Compiled(**(known | figures), candidates=candidates)


def test_a_compilation_s_error_comes_back_from_its_process(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="squeezenet9"):
        compile_apart("squeezenet9", output=tmp_path)


def test_a_compilation_that_dies_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(DIES)
    options: dict[str, Any] = {"input_shapes": [(1, 3, 8, 8)], "output": tmp_path}
    with pytest.raises(BuildError, match=r"compiled .*net died"):
        compile_apart(f"{tmp_path / 'small.py'}:net", **options)


def test_kernels_that_were_not_measured_have_no_cost_before(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(NETWORK)
    found = compile_apart(
        f"{tmp_path / 'small.py'}:net",
        sorted(os.sched_getaffinity(0))[:1],
        input_shapes=[(1, 3, 8, 8)],
        logs=tmp_path / "logs",
        output=tmp_path / "dist",
        measure=False,
    )
    assert (found.kernels_before, found.candidates, found.unit) == (None, 0, "seconds")
    assert found.cost > 0 and found.bundle.is_dir()
    assert found.where.endswith("1 thread)"), "on the core it was given"


def test_what_kernels_took_unscheduled_is_of_the_run_that_measured_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = iter([compiled(), compiled(0, kernels_before=999e6, cost=99e6, seconds=9.0)])
    monkeypatch.setattr(emulated, "compile_apart", lambda model, **options: next(told))
    row = emulated.measure("x", "net")
    assert (row["instructions_before"], row["instructions"]) == (800e6, 70e6)
    assert (row["seconds_cold"], row["seconds_with_records"]) == (60.0, 9.0)


def test_a_second_run_that_measures_something_again_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(emulated, "compile_apart", lambda model, **options: compiled(2))
    with pytest.raises(Error, match="net: with all records, 2 candidates were measured again"):
        emulated.measure("x", "net")


@pytest.mark.parametrize("target", ["host", "rk3399-mali"])
def test_a_target_without_counts_is_refused(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert emulated.main(["--target", target, "--output", str(tmp_path / "out")]) == 2
    assert f"--target {target}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_writes_what_each_compilation_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = iter([compiled(kernels_before=None), compiled(0)])
    monkeypatch.setattr(emulated, "compile_apart", lambda model, **options: next(told))
    arguments = ["--models", "flattened_cifar", "--output", str(tmp_path)]
    assert emulated.main(arguments) == 0
    assert "| flattened_cifar | - | 70.0 | 1.0e-07 | 3 | 60 | 60 |" in capsys.readouterr().out
    found = results_file.read(tmp_path / "emulated-rasp4.json")
    assert found.data["models"][0]["instructions_before"] is None
    assert str(found.command).startswith("python benchmarks/emulated.py --models flattened_cifar")


def test_opencl_refuses_a_target_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert opencl.main(["--target", "rasp4"]) == 2
    assert "--target rasp4 has no GPU" in capsys.readouterr().err


class FakeDevice:
    """A device that is named, and on which nothing runs."""

    where = "PoCL on this machine (c)"

    def __enter__(self) -> FakeDevice:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


def test_opencl_writes_its_rows_with_the_device_they_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"model": "flattened_cifar", "default_ms": 115.2, "ms": 4.54, "faster": 25.4}
    row |= {"error": 5.7e-07, "candidates": 3, "tuning_s": 30.4}
    asked: list[tuple[object, ...]] = []

    def select(target: Any, *options: object) -> SelectedDevice:
        asked.append((target.name, options[0], options[-1]))
        return SelectedDevice(FakeDevice(), target, "opening")  # type: ignore[arg-type]

    monkeypatch.setattr(opencl, "select", select)
    monkeypatch.setattr(opencl.Bench, "measure", lambda self, model: row)
    arguments = ["--model", "flattened_cifar", "--dtype", "float16", "--output", str(tmp_path)]
    assert opencl.main(arguments) == 0
    assert asked == [("rk3399-mali", None, "float16")]
    found = results_file.read(tmp_path / "opencl-rk3399-mali-float16.json")
    assert found.data["rows"] == [row] and found.data["where"] == FakeDevice.where
    assert "| flattened_cifar | 115 | 4.54 | 25x |" in capsys.readouterr().out

"""``tune`` and ``bench`` for a GPU, without its board and over RPC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tvm
from gpu_networks import imported
from servers import tvm_server

import tvm_eff
from tvm_eff import passes, schedules, targets
from tvm_eff.cli import bench, tune
from tvm_eff.codegen.opencl_source import source_of
from tvm_eff.errors import BundleError
from tvm_eff.passes.pipeline import OPENCL_PIPELINE
from tvm_eff.targets import Target
from tvm_eff.tune.task import Task, extract

SOURCE = """
from torch import nn


def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )
"""
OWN = ["--model", "net.py:net", "--input-shape", "1,3,21,17", "--trials", "1", "--logs", "logs"]
AARCH64 = 183  # EM_AARCH64 of the ELF format


@pytest.fixture(autouse=True)
def folder(
    drivers: tuple[str, ...],
    caches: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with a user's file, to stand in."""
    for name, value in caches.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SOURCE)
    return tmp_path


def _run(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert tune.main([*OWN, "--json", *arguments]) == 0
    return json.loads(capfd.readouterr().out.splitlines()[-1])


def test_processor_with_float16(capfd: pytest.CaptureFixture[str]) -> None:
    assert tune.main([*OWN, "--target", "rasp4", "--dtype", "float16"]) == 2
    assert "rasp4 runs networks on a processor without arithmetic" in capfd.readouterr().err
    assert not Path("logs").exists()


def test_gpu_without_its_board(capfd: pytest.CaptureFixture[str]) -> None:
    first = _run(capfd, "--target", "rk3399-mali")
    assert first["candidates"] > 0
    assert first["latency_ms"] > 0
    assert first["largest_error"] < 1e-5
    assert "PoCL" in first["where"]
    library = Path(first["bundle"]) / "model.so"
    assert int.from_bytes(library.read_bytes()[18:20], "little") == AARCH64
    manifest = json.loads((Path(first["bundle"]) / "manifest.json").read_text())
    assert manifest["target"]["opencl"]["extensions"] == []
    assert 1 <= manifest["target"]["opencl"]["work_group"] <= 256
    measured = json.loads((Path(first["bundle"]) / "measurement.json").read_text())
    assert "PoCL" in measured["where"]
    with pytest.raises(BundleError, match=r"made for rk3399-mali.*this machine"):
        tvm_eff.load(first["bundle"])

    again = _run(capfd, "--target", "rk3399-mali")
    assert again["candidates"] == 0


def test_gpu_in_float16(capfd: pytest.CaptureFixture[str]) -> None:
    result = _run(capfd, "--target", "vim3-mali", "--dtype", "float16")
    assert result["bundle"].endswith("net-vim3-mali-float16")
    assert 0 < result["largest_error"] < 1e-2
    manifest = json.loads((Path(result["bundle"]) / "manifest.json").read_text())
    assert manifest["target"]["opencl"]["extensions"] == ["cl_khr_fp16"]
    assert manifest["validation"]["dtype"] == "float16"
    assert manifest["validation"]["same_class"] is True


def test_gpu_over_rpc(
    caches: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with tvm_server(tmp_path, caches) as port:
        address = f"127.0.0.1:{port}"
        result = _run(capfd, "--target", "opencl-host", "--rpc", address)
        assert result["where"] == f"rpc {address}"
        assert bench.main([result["bundle"], "--rpc", address]) == 0
        assert "p50" in capfd.readouterr().out
        assert tune.main([*OWN, "--target", "opencl-host", "--rpc", address, "--dtype", "float16"])
        assert "has no cl_khr_fp16" in capfd.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_board_gets_the_kernels_that_ran_here(dtype: str) -> None:
    """What is validated here and what ships differ in the processor's code alone."""
    board = targets.load("rk3399-mali")
    _, network = imported("mobilenet")
    tasks = extract(passes.lower(network, board, dtype).mod)
    for task in tasks:
        assert _source(task, board) == _source(task, targets.launched_from_here(board))


def _source(task: Task, target: Target) -> str:
    sch = schedules.apply(task.func, schedules.candidates(task.func, target)[0], target)
    mod = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(sch.mod)
    source = source_of(tvm.tirx.build(mod, target=target.tvm_target(), pipeline=OPENCL_PIPELINE))
    assert "__kernel" in source
    return source

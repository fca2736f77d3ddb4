"""Layers in float16 beside others, from the call to a bundle on the emulated Cortex-A76."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantized_networks import Wide

import tvm_eff
from tvm_eff.cli.precision_summary import precision_table, quantization_lines
from tvm_eff.cli.tune import main
from tvm_eff.deploy import bundle
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.tensors import network_tolerance

SHAPE = (1, 3, 12, 12)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(8, *SHAPE)).astype("float32"))
    return path


def compiled(folder: Path, data: Path, max_drop: float, **options: Any) -> Bundle:
    made = tvm_eff.compile(
        Wide().eval(),
        torch.from_numpy(np.load(data)["x"][0]),
        target="rasp5",
        dtype="auto",
        calibrate=data,
        max_drop=max_drop,
        logs=folder / "logs",
        output=folder,
        **options,
    )
    return bundle.read(made.folder) if made.report is None else made


def test_refused_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "dist"), "--logs", str(tmp_path / "logs")]
    command = ["--target", "rasp5", "--model", "mobilenet_0.25", "--dtype", "auto", *output]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "give inputs like those in use: --calibrate DATA" in " ".join(told.split())
    assert "Traceback" not in told
    assert not (tmp_path / "dist").exists()


def test_measured_validated_and_bisected(tmp_path: Path, data: Path, emulator: None) -> None:
    made = compiled(tmp_path, data, 0.02, trials=2)
    assert made.report is not None
    assert made.report.measured > 0
    assert made.report.failed == 0
    found = bundle.read(made.folder).manifest.validation
    assert (found.dtype, found.half_precision_limit) == ("mixed", None)
    # The layer in float16 is read by one in integers: a step more or less is allowed for.
    assert 0 < found.largest_error < 2 * network_tolerance("mixed")
    assert found.largest_error <= found.tolerance
    assert found.quantization is not None and found.quantization.choice is not None
    layers = found.quantization.choice.layers
    assert [each.precision for each in layers] == ["int8", "float16", "int8"]
    assert found.quantization.in_float32 == ()
    kept = {each.dtype for each in made.manifest.weights if len(each.shape) > 4}
    assert kept == {"int8", "float16"}
    assert "2 of 3 layers in int8, 1 in float16: cost" in "\n".join(
        quantization_lines(found.quantization)
    )
    table = precision_table(found.quantization)
    assert table is not None
    assert "in float16" in [each.header for each in table.columns]
    again = made.bisect(model=Wide().eval(), calibrate=data)
    assert again.right, again.text()


def test_what_it_is_not_up_to_is_said(tmp_path: Path, data: Path, emulator: None) -> None:
    made = compiled(tmp_path, data, 0.001, measure=False)
    found = made.manifest.validation
    assert found.quantization is not None and found.quantization.choice is not None
    precisions = {each.precision for each in found.quantization.choice.layers}
    assert (found.dtype, precisions) == ("mixed", {"float16"})
    assert found.largest_error < network_tolerance("mixed")
    assert "NaN or infinite" in str(found.half_precision_limit)
    (first, *_) = quantization_lines(found.quantization)
    assert first.startswith("float16      calibrated on data.npz, 8 samples: ")

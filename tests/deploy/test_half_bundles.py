"""float16 on a processor, from the command to a bundle on the emulated Cortex-A76."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tvm_eff
from tvm_eff.cli.tune import main
from tvm_eff.tensors import network_tolerance

SHAPE = (1, 3, 16, 16)


def network() -> nn.Module:
    """Return convolutions, a depthwise one, pooling and a dense layer."""
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU6()),
        nn.Sequential(nn.Conv2d(16, 72, 1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(72, 24, 3), nn.ReLU()),
        nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(216, 10)),
    ]
    return nn.Sequential(*layers).eval()


def test_refused_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "squeezenet", "--output", str(tmp_path / "dist")]
    assert main(["--target", "rasp4", *options, "--dtype", "float16"]) == 2
    told = capsys.readouterr().err
    assert "cortex-a72 has none" in told
    assert "Traceback" not in told
    assert not (tmp_path / "dist").exists()


def test_measured_and_validated(tmp_path: Path, emulator: None) -> None:
    model, x = network(), torch.randn(SHAPE)
    build = partial(
        tvm_eff.compile, model, x, target="rasp5", dtype="float16", logs=tmp_path / "logs"
    )
    bundle = build(trials=1, output=tmp_path / "one")
    assert bundle.report is not None
    assert bundle.report.measured > 4
    assert bundle.report.failed == 0
    found = bundle.manifest.validation
    assert (found.dtype, found.same_class) == ("float16", True)
    assert 1e-5 < found.largest_error < network_tolerance("float16")
    # Inputs and outputs stay float32; the library needs nothing else.
    golden = bundle.golden()
    values = (*golden.inputs.values(), *golden.outputs.values())
    assert {each.dtype for each in values} == {np.dtype("float32")}
    assert bundle.manifest.runtime == "native"
    again = build(measure=False, output=tmp_path / "two")
    assert again.report is not None
    assert again.report.measured == 0
    assert again.library.read_bytes() == bundle.library.read_bytes()


def test_a_convolution_by_winograds_algorithm(tmp_path: Path, emulator: None) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 4)).eval()
    build = partial(
        tvm_eff.compile,
        *(model, torch.randn(SHAPE)),
        target="rasp5",
        dtype="float16",
        logs=tmp_path / "logs",
    )
    bundle = build(trials=2, output=tmp_path / "build")
    assert bundle.report is not None
    assert bundle.report.failed == 0
    assert "winograd_half" in {each.rule for each in bundle.manifest.kernels.values()}
    assert {each.algorithm for each in bundle.manifest.weights} == {"", "winograd_half2"}
    # The same weights, transformed by the library.
    loaded = build(measure=False, output=tmp_path / "load", pack_weights="load")
    for each in (bundle, loaded):
        assert 1e-5 < each.manifest.validation.largest_error < network_tolerance("float16")
    assert loaded.library.stat().st_size < bundle.library.stat().st_size


def test_what_it_is_not_up_to_is_said(tmp_path: Path, emulator: None) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 1)
    with torch.no_grad():
        for each in (first, second):
            each.weight *= 60  # sums beyond 65,504, of bright images alone
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(1568, 4))
    bundle = tvm_eff.compile(
        model.eval(),
        torch.randn(SHAPE),
        target="rasp5",
        dtype="float16",
        measure=False,
        logs=tmp_path / "logs",
        output=tmp_path,
    )
    limit = bundle.manifest.validation.half_precision_limit
    assert limit is not None
    assert "NaN or infinite" in limit

"""int8 from the command to a bundle, here and on an emulated board; and what is refused."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from network_modules import randomize
from quantized_networks import Added, Narrow, Wide, traced
from torch import nn

import tvm_eff
from tvm_eff import quantize
from tvm_eff.cli.precision_summary import precision_table, quantization_lines
from tvm_eff.cli.tune import main
from tvm_eff.deploy.manifest import Runtime
from tvm_eff.errors import SetupError

SHAPE = (1, 8, 10, 10)
AUTO = ["--dtype", "auto", "--calibrate"]
BYTES = ["--preprocess", "mean=0.5,std=0.5,layout=NHWC,dtype=uint8"]


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [Added(), nn.Flatten(), nn.Linear(400, 10)]
    return randomize(nn.Sequential(*layers)).eval()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    x = np.random.default_rng(0).normal(size=(12, *SHAPE)).astype("float32")
    np.savez(path, x=x, labels=np.arange(12) % 10)
    return path


@pytest.mark.parametrize("runtime", ["virtual-machine", "native"])
def test_this_machine(tmp_path: Path, data: Path, runtime: Runtime) -> None:
    model = network()
    bundle = tvm_eff.compile(
        model,
        torch.randn(SHAPE),
        dtype="int8",
        calibrate=data,
        validation_data=data,
        runtime=runtime,
        logs=tmp_path / "logs",
        output=tmp_path,
        measure=False,
    )
    assert bundle.folder.name == "Sequential-host-int8"
    found = tvm_eff.load(bundle.folder).manifest.validation
    assert (found.dtype, found.largest_error) == ("int8", 0.0)
    assert bundle.check() == 0
    assert found.data is not None and found.data.samples == 12
    assert found.data.same_class is not None and found.data.same_class > 0.9
    assert found.quantization is not None
    assert (found.quantization.source, found.quantization.samples) == ("data.npz", 12)
    assert found.quantization.warning is None
    assert 25 < found.quantization.sqnr_db < 60
    with torch.no_grad():
        x = torch.randn(SHAPE)
        wanted = model(x).numpy()
    assert np.abs(bundle.run(x.numpy()) - wanted).max() < 0.1 * np.ptp(wanted)


def test_a_convolution_by_winograds_algorithm(tmp_path: Path, emulator: None) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(3200, 4)).eval()
    build = partial(
        tvm_eff.compile,
        *(model, torch.randn(SHAPE)),
        target="rasp4",
        dtype="int8",
        logs=tmp_path / "logs",
    )
    bundle = build(trials=2, output=tmp_path / "build")
    assert bundle.report is not None
    assert bundle.report.failed == 0
    assert "winograd_bytes" in {each.rule for each in bundle.manifest.kernels.values()}
    (weight,) = (each for each in bundle.manifest.weights if each.algorithm)
    # 36 values of 16 bits for nine bytes.
    assert (weight.algorithm, weight.bytes) == ("winograd_bytes", 8 * weight.model_bytes)
    assert weight.model_bytes == 32 * 16 * 9
    # The same weights, transformed by the library.
    loaded = build(measure=False, output=tmp_path / "load", pack_weights="load")
    for each in (bundle, loaded):
        assert each.manifest.validation.largest_error == 0
    assert loaded.library.stat().st_size < bundle.library.stat().st_size


def test_emulated_board(tmp_path: Path, emulator: None, caplog: pytest.LogCaptureFixture) -> None:
    bundle = tvm_eff.compile(
        network(),
        torch.randn(SHAPE),
        target="rasp4",
        dtype="int8",
        logs=tmp_path / "logs",
        output=tmp_path,
        measure=False,
    )
    found = bundle.manifest.validation
    assert found.largest_error == 0
    assert found.quantization is not None and found.quantization.source is None
    assert "the accuracy of this library means nothing" in str(found.quantization.warning)
    assert "calibrated on random inputs" in caplog.text


def test_measured_candidates_are_right(tmp_path: Path, data: Path) -> None:
    bundle = tvm_eff.compile(
        network(),
        torch.randn(SHAPE),
        dtype="int8",
        calibrate=data,
        logs=tmp_path / "logs",
        output=tmp_path,
        trials=2,
    )
    assert bundle.report is not None
    assert bundle.report.measured > 0
    assert bundle.report.failed == 0


def test_saved_quantized_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = quantize.quantize(traced(network(), SHAPE), None, None, "uint8").program
    path = tmp_path / "net.pt2"
    torch.export.save(program.exported, path)
    options = ["--target", "host", "--model", str(path), "--no-measure"]
    folders = ["--logs", str(tmp_path / "logs"), "--output", str(tmp_path / "dist")]
    assert main([*options, *folders, "--dtype", "int8"]) == 2
    assert "net is quantized already" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()
    assert main([*options, *folders]) == 0
    found = tvm_eff.load(tmp_path / "dist" / "net-host").manifest.validation
    assert (found.dtype, found.largest_error, found.quantization) == ("int8", 0.0, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calibrate", "wrong.npz"], "give samples of 1 x 3 x 64 x 64 float32, one in each row"),
        (["--calibrate", "nan.npz"], "sample 1 cannot calibrate: 'x' has 1 values that are NaN"),
        (["--calibrate", "empty.npz"], "empty.npz holds no samples"),
        (["--calibrate", "nowhere"], "there is no data nowhere"),
        (["--target", "rk3399-mali"], "runs networks on the GPU, which does not compute in int8"),
        (["--dtype", "float32", "--calibrate", "nan.npz"], "--calibrate is for --dtype int8"),
        (["--calibrate", "equal.npz"], "cannot calibrate: every value is 0.5; give samples like"),
        (["--calibrate", "class.npz"], "all 2 labels are of one class, 3; give samples of several"),
        (["--calibrate", "images", *BYTES], "images holds no samples; give a folder of images"),
        (["--dtype", "auto"], "give inputs like those in use: --calibrate DATA"),
        (["--dtype", "auto", "--target", "rk3399-mali"], "which does not compute in int8"),
        (["--max-drop", "1%"], "--max-drop is for --dtype auto, which chooses what is lost"),
        (["--metric", "own.py:score"], "--metric is for --dtype auto, which chooses what is lost"),
        ([*AUTO, "good.npz", "--metric", "own.py:score"], "there is no file own.py"),
        ([*AUTO, "nan.npz"], "sample 1 cannot calibrate: 'x' has 1 values that are NaN"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    good = np.random.default_rng(0).random((2, 1, 3, 64, 64), "float32")
    Path("images").mkdir()
    np.savez("good.npz", x=good)
    np.savez("equal.npz", x=np.full_like(good, 0.5))
    np.savez("class.npz", x=good, labels=np.array([3, 3]))
    np.savez("wrong.npz", x=good[..., :60])
    np.savez("empty.npz", x=good[:0])
    good[1, 0, 2, 3, 4] = np.nan
    np.savez("nan.npz", x=good)
    command = ["--target", "host", "--model", "mobilenet_0.25", "--resolution", "64"]
    assert main([*command, "--no-measure", "--dtype", "int8", *options]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("loss", ["101%", "1.5", "-1%", "nan", "one", "%"])
def test_bad_losses_are_refused(loss: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--target", "host", "--model", "mobilenet_0.25", *AUTO, "x.npz"]
    with pytest.raises(SystemExit, match="2"):
        main([*command, f"--max-drop={loss}"])
    assert f"'{loss}' is not a loss that can be allowed" in capsys.readouterr().err


def test_programs_of_four_bits_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "narrow.pt2"
    torch.export.save(torch.export.export(Narrow(), (torch.randn(2, 8),)), path)
    folders = ["--logs", str(tmp_path / "logs"), "--output", str(tmp_path / "dist")]
    assert main(["--target", "host", "--model", str(path), *folders]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "values from -8 to 7 in torch.int8 are not supported" in error
    assert "Traceback" not in error
    assert not (tmp_path / "dist").exists()


def test_mixed_precision(tmp_path: Path) -> None:
    """The layer that reads one wide channel stays in float32, between two in integers."""
    shape = (1, 3, 12, 12)
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype("float32")
    bundle = tvm_eff.compile(
        Wide().eval(),
        torch.from_numpy(x[0]),
        dtype="auto",
        calibrate=lambda: iter(x),
        max_drop=0.02,
        logs=tmp_path / "logs",
        output=tmp_path,
        measure=False,
    )
    assert bundle.folder.name == "Wide-host-auto"
    found = tvm_eff.load(bundle.folder).manifest.validation.quantization
    assert found is not None and found.choice is not None
    assert [each.precision for each in found.choice.layers] == ["int8", "float32", "int8"]
    assert found.choice.cost_after < 0.5 * found.choice.cost_before
    assert found.in_float32 == ("conv2d.default in 'reads'",)
    assert bundle.check() <= bundle.manifest.validation.tolerance
    dtypes = {each.dtype for each in bundle.manifest.weights if len(each.shape) > 4}
    assert dtypes == {"int8", "float32"}
    lines = " ".join(quantization_lines(found))
    assert "2 of 3 layers in int8: cost" in lines
    assert "2.00% may be lost" in lines
    assert precision_table(found) is not None


def test_missing_torchao_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("torchao.quantization.pt2e")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e", None)
    monkeypatch.delitem(sys.modules, "tvm_eff.quantize.quantizer", raising=False)
    with pytest.raises(SetupError, match="pip install torchao"):
        quantize.quantize(traced(network(), SHAPE), None, None, "uint8")

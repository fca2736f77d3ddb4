"""The front door: ``tvm_eff.compile`` takes what a PyTorch user has, and says what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tvm_eff
from tvm_eff import models
from tvm_eff.device import LocalDevice
from tvm_eff.errors import BundleError, Error, ModelError, TargetError, UsageError
from tvm_eff.tensors import TOLERANCE, relative_error
from tvm_eff.tune import Record, Task


class Net(nn.Module):
    """Kernels of several kinds; in training mode it computes something else."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(),
            nn.Flatten(),
        )
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


class Recorder:
    """Keeps the events of a compilation."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.candidates = 0
        self.to_measure: int | None = None

    def step(self, what: str) -> None:
        self.steps.append(what)

    def advanced(self, what: str, done: int, count: int | None) -> None:
        raise AssertionError("nothing long is built for this machine")

    def started(self, total: int, to_measure: int, rechecked: int) -> None:
        self.to_measure = to_measure

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        self.candidates += 1


class OwnDevice(LocalDevice):
    """The machine as somebody else's device."""

    opened = closed = 0

    def open(self) -> None:
        self.opened += 1
        super().open()

    def close(self) -> None:
        self.closed += 1
        super().close()

    @property
    def where(self) -> str:
        return "a device of my own"


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def compiled(
    net: nn.Module, image: torch.Tensor, folder: Path, recorder: Recorder
) -> tvm_eff.Bundle:
    """What every test reads that needs no other compilation; its records are in ``logs``."""
    return tvm_eff.compile(
        net,
        image,
        logs=folder / "logs",
        output=folder / "dist",
        trials=1,
        progress=recorder,
        dump_ir=folder / "ir",
    )


def compile_again(folder: Path, model: Any, *inputs: Any, **options: Any) -> tvm_eff.Bundle:
    """Compile with records, but those of other kernels are missing and nothing is measured."""
    options = {"measure": False, "output": folder / "again", **options}
    return tvm_eff.compile(model, *inputs, logs=folder / "logs", **options)


def run(made: tvm_eff.Bundle, x: torch.Tensor) -> np.ndarray:
    """Return the one output of a bundle."""
    output = made.run(x.numpy())
    assert isinstance(output, np.ndarray)
    return output


def pytorchs(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(x).numpy()


def test_bundle_computes_what_pytorch_does(
    compiled: tvm_eff.Bundle, net: nn.Module, image: torch.Tensor, folder: Path
) -> None:
    assert compiled.folder == folder / "dist" / "Net-host"
    for x in (image, torch.randn(1, 3, 8, 8)):
        assert relative_error(run(compiled, x), pytorchs(net, x)) <= TOLERANCE
    assert compiled.check() <= TOLERANCE
    # The example is what the bundle checks itself with, before any random input.
    (example,) = compiled.golden().inputs.values()
    np.testing.assert_array_equal(example, image.numpy())


def test_bundle_says_what_it_is(compiled: tvm_eff.Bundle) -> None:
    assert 0 < compiled.error <= TOLERANCE
    assert compiled.manifest.validation.inputs == 4
    assert (compiled.manifest.validation.operators_proved or 0) > 1
    assert compiled.size == sum(path.stat().st_size for path in compiled.folder.iterdir())
    report = compiled.report
    assert report is not None
    assert report.measured > 0
    assert report.failed == 0
    assert report.measurement.unit == "seconds"
    assert 0 < report.kernels_after <= report.kernels_before
    assert report.seconds > 0


def test_benchmark(compiled: tvm_eff.Bundle) -> None:
    found = compiled.benchmark(threads=1, repeat=5).as_dict()
    assert len(found["values"]) == 5
    assert 0 < found["p10_ms"] <= found["p50_ms"] <= found["p90_ms"]
    assert found["largest_error"] <= TOLERANCE


def test_what_progress_is_told(compiled: tvm_eff.Bundle, recorder: Recorder) -> None:
    assert recorder.steps == [
        "importing Net",
        "comparing its operators with PyTorch's",
        "starting a server on this machine",
        "compiling the library",
        f"validating on {compiled.manifest.validation.where}",
    ]
    assert compiled.report is not None
    assert recorder.to_measure is not None
    assert compiled.report.measured == recorder.candidates == recorder.to_measure > 0


def test_ir_is_dumped_in_order(compiled: tvm_eff.Bundle, folder: Path) -> None:
    files = sorted((folder / "ir").iterdir())
    names = [file.stem.partition("_")[2] for file in files]
    assert [int(file.name.partition("_")[0]) for file in files] == list(range(len(files)))
    phases = [
        "SimplifyBatchNorm",  # canonicalize
        "FoldScale",
        "ChannelsLast",  # layout
        "PadChannels",
        "LiftTransformParams",  # fold_weights
        "ConcatenateInPlace",  # fuse
        "LegalizeOps",
        "FuseOps",
        "FuseTIR",
        "NarrowIndices",
        "MetaScheduleApplyDatabase",  # schedules
        "SplitLayoutRewritePreproc",  # pack_weights
        "BindParams",
        "CallTIRRewrite",
        "tirx.VectorizeLoop",  # lower_tir
        "allocate_on_stack",
        "relax_pointer_alignment",
        "tirx.LowerIntrin",
    ]
    # The last of each name: kernels alone are lowered on the way too.
    last = {name: index for index, name in enumerate(names)}
    first = {name: index for index, name in reversed(list(enumerate(names)))}
    places = [first[name] for name in phases[: phases.index("BindParams") + 1]]
    places += [last[name] for name in phases[phases.index("BindParams") + 1 :]]
    assert places == sorted(places)
    assert "batch_norm" not in files[first["FuseTIR"]].read_text()
    assert "batch_norm" in files[0].read_text() or "multiply" in files[0].read_text()


def test_dump_needs_an_empty_folder(
    compiled: tvm_eff.Bundle, folder: Path, net: nn.Module, image: torch.Tensor, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=f"{tmp_path} is not empty; name a new folder"):
        compile_again(folder, net, image, dump_ir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert not (folder / "again" / "Net-host").exists()


def test_records_are_found_again(
    compiled: tvm_eff.Bundle, net: nn.Module, image: torch.Tensor, folder: Path
) -> None:
    recorder = Recorder()
    options = {"measure": True, "trials": 1, "progress": recorder}
    again = compile_again(folder, net, [image], output=folder / "same", **options)
    assert recorder.to_measure == recorder.candidates == 0
    assert again.error == compiled.error


def test_exported_program(
    compiled: tvm_eff.Bundle, net: nn.Module, image: torch.Tensor, folder: Path
) -> None:
    program = torch.export.export(net, (image,))
    made = compile_again(folder, program, name="exported net")
    assert made.folder.name == "exported_net-host"
    x = torch.randn(1, 3, 8, 8)
    assert relative_error(run(made, x), pytorchs(net, x)) <= TOLERANCE


def test_nothing_is_measured_on_request(
    net: nn.Module, image: torch.Tensor, tmp_path: Path
) -> None:
    made = compile_again(tmp_path, net, image, proof=False)
    assert made.manifest.validation.operators_proved is None
    assert relative_error(run(made, image), pytorchs(net, image)) <= TOLERANCE
    assert made.report is not None
    assert made.report.measured == 0
    assert {each.best for each in made.report.tasks} == {None}
    assert list((tmp_path / "logs").rglob("measurements.jsonl")) == []


def test_model_of_the_zoo(tmp_path: Path) -> None:
    made = compile_again(tmp_path, "mobilenet", width=0.25, resolution=128, validation_inputs=1)
    (taken,) = made.manifest.inputs
    assert tuple(taken.shape) == (1, 3, 128, 128)
    network = models.load("mobilenet", width=0.25, resolution=128)
    assert made.manifest.model == network.name
    x = torch.randn(1, 3, 128, 128)
    assert isinstance(network.module, nn.Module)
    assert relative_error(run(made, x), pytorchs(network.module, x)) <= TOLERANCE


@pytest.fixture
def partly_training(net: nn.Module) -> Iterator[nn.Module]:
    """The network, of which a part is in training mode."""
    net.body[1].train()  # type: ignore[index,union-attr]
    yield net
    net.eval()


def test_module_in_training_mode(
    compiled: tvm_eff.Bundle,
    partly_training: nn.Module,
    image: torch.Tensor,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = {name: each.training for name, each in partly_training.named_modules()}
    with caplog.at_level(logging.WARNING, "tvm_eff"):
        made = compile_again(folder, partly_training, image, output=folder / "training")
    assert "Net is in training mode: it is compiled as in inference mode" in caplog.text
    assert {name: each.training for name, each in partly_training.named_modules()} == before
    assert relative_error(run(made, image), run(compiled, image)) <= TOLERANCE


def test_device_of_ones_own(
    compiled: tvm_eff.Bundle, net: nn.Module, image: torch.Tensor, folder: Path
) -> None:
    device = OwnDevice(threads=1)
    made = compile_again(folder, net, image, device=device, output=folder / "own")
    assert made.report is not None
    assert made.report.where == made.manifest.validation.where == "a device of my own"
    assert device.opened == 1
    assert device.closed >= 1


def test_rich_progress(
    compiled: tvm_eff.Bundle,
    net: nn.Module,
    image: torch.Tensor,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    compile_again(folder, net, image, progress="rich", output=folder / "rich")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.index("importing Net") < err.index("compiling the library") < err.index("validating")
    assert not any(type(each).__name__ == "RichHandler" for each in logging.root.handlers)
    assert logging.getLogger("tvm_eff").handlers == []


def bad(**options: Any) -> dict[str, Any]:
    """Options of :func:`tvm_eff.compile`; the model and its input are right unless named."""
    return options


IMAGE = torch.zeros(1, 3, 8, 8)
OTHER = torch.zeros(1, 3, 12, 12)
WRONG: dict[str, tuple[dict[str, Any], type[Error], str]] = {
    "model": (bad(model=[1, 2]), UsageError, "the model is a list; give a torch.nn.Module"),
    "inputs": (bad(inputs=["cat.jpg"]), UsageError, "example input 0 is a str; give tensors"),
    "one input": (bad(inputs=5), UsageError, "the example inputs are a int; give a tensor"),
    "kind of input": (
        bad(inputs=IMAGE.to(torch.bfloat16)),
        UsageError,
        "example input 0 is of bfloat16; networks take float32, float64,",
    ),
    "no inputs": (bad(inputs=None), ModelError, "what does Net take? give example inputs"),
    "refused inputs": (bad(inputs=OTHER), ModelError, "Net rejects an input of 1 x 3 x 12 x 12"),
    "inputs of a program": (
        bad(model=torch.export.export(Net().eval(), (IMAGE,)), inputs=OTHER),
        UsageError,
        "program takes 1 x 3 x 8 x 8 float32; the example inputs are 1 x 3 x 12 x 12 float32",
    ),
    "two places": (
        bad(device=LocalDevice(), rpc="board:9090"),
        UsageError,
        "a device and the address of an RPC server are two places; give one",
    ),
    "address": (bad(rpc="board"), UsageError, "'board' is not an address"),
    "dtype": (bad(dtype="float61"), UsageError, "unknown dtype 'float61'; did you mean 'float16'"),
    "half": (bad(dtype="float16"), UsageError, "host runs networks on a processor without"),
    "target": (bad(target="rasp44"), TargetError, "unknown target 'rasp44'; did you mean 'rasp4'"),
    "name": (
        bad(model="squeezenet9", inputs=None),
        ModelError,
        "'squeezenet9'",
    ),
    "width": (bad(width=0.5), UsageError, "width is not for a module; leave it out"),
    "trials": (bad(trials=0), UsageError, "trials is 0; give at least 1"),
    "validation": (
        bad(inputs=None, input_shapes=[(1, 3, 8, 8)], validation_inputs=0),
        UsageError,
        "with 0 validation inputs and no examples nothing would be compared",
    ),
    "progress": (bad(progress="poor"), UsageError, "progress is 'poor'; give \"rich\""),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_before_anything_is_written(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, kind, message = WRONG[what]
    monkeypatch.chdir(tmp_path)
    right = {"model": Net().eval(), "inputs": IMAGE, "logs": "logs", "dump_ir": "ir"}
    arguments = {**right, **options}
    if what == "refused inputs":
        del arguments["dump_ir"]  # which holds the passes on the way to the tracing
    with pytest.raises(Error) as raised:
        tvm_eff.compile(**arguments)
    assert type(raised.value) is kind
    assert message in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_output_that_holds_something_else(
    net: nn.Module, image: torch.Tensor, tmp_path: Path
) -> None:
    mine = tmp_path / "again" / "Net-host" / "thesis.tex"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(BundleError, match=r"holds 'thesis\.tex', which is no part of a bundle"):
        compile_again(tmp_path, net, image)
    assert mine.read_text() == "years of work"
    assert not (tmp_path / "logs").exists()

"""Loading a user's own model, and the errors of what cannot be loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tvm_eff import models
from tvm_eff.errors import ModelError
from tvm_eff.tensors import TensorSpec

SOURCE = """
import torch
from torch import nn
from beside import CLASSES


class Net(nn.Module):
    def __init__(self, classes=CLASSES):
        super().__init__()
        self.body = nn.Conv2d(3, classes, 3)

    def forward(self, x):
        return self.body(x)


class Needs(nn.Module):
    def __init__(self, classes, depth):
        super().__init__()


def small():
    return Net(2)


def fails():
    raise RuntimeError("no data here")


def leaves():
    raise SystemExit(3)


def text():
    return "a network"


made = Net(5)
number = 3
"""
SHAPE = [(1, 3, 8, 8)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's files, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    (tmp_path / "beside.py").write_text("CLASSES = 7\n")
    (tmp_path / "net.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("import torch\nx = (\n")
    (tmp_path / "lacking.py").write_text("import torch\nimport no_such_package\n")
    yield tmp_path
    for name in set(sys.modules) - modules:
        if name in ("beside", "net") or name.startswith("tvm_eff_model_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("net.py", "which model of net.py.*net.py:Net"),
        ("nett.py:Net", "no file nett.py; did you mean 'net.py'"),
        ("net.py:Nett", "net.py has no 'Nett'; did you mean 'Net'"),
        ("net.py:", "'net.py:' names no model"),
        (":Net", "':Net' names no model"),
        ("net.py:Needs", r"needs arguments \(classes, depth\)"),
        ("net.py:fails", r"RuntimeError: no data here \(.*net.py:\d+, in fails\)"),
        ("net.py:leaves", "cannot be made: SystemExit"),
        ("net.py:text", "gives a str, not a torch.nn.Module"),
        ("net.py:number", "is a int, not a class"),
        ("broken.py:Net", r"broken.py cannot be imported: SyntaxError: .*broken.py:2"),
        ("lacking.py:Net", r"ModuleNotFoundError: No module named 'no_such_package' \(.*:2"),
        ("no.such:Net", "no module 'no.such'"),
        ("absent.pt2", "no file absent.pt2"),
        ("sqeezenet", "unknown model 'sqeezenet'; did you mean 'squeezenet"),
    ],
)
def test_what_is_no_model(model: str, wanted: str, folder: Path) -> None:
    with pytest.raises(ModelError, match=wanted):
        models.load(model, input_shapes=SHAPE)


def test_own_model_needs_a_shape(folder: Path) -> None:
    with pytest.raises(ModelError, match="--input-shape 1,3,224,224"):
        models.load("net.py:Net")


@pytest.mark.parametrize(
    ("shapes", "dtypes", "wanted"),
    [
        (SHAPE, ["flaot32"], "unknown input dtype 'flaot32'; did you mean 'float32'"),
        (SHAPE, ["float32", "int64"], "2 input dtypes for 1 input shapes"),
        ([(1, 0, 8, 8)], [], "1 x 0 x 8 x 8 has an extent below 1"),
    ],
)
def test_wrong_inputs(
    shapes: list[tuple[int, ...]], dtypes: list[str], wanted: str, folder: Path
) -> None:
    with pytest.raises(ModelError, match=wanted):
        models.load("net.py:Net", input_shapes=shapes, input_dtypes=dtypes)


def test_options_of_the_zoo_are_not_for_own_models(folder: Path) -> None:
    with pytest.raises(ModelError, match="--resolution is not for a model of your own"):
        models.load("net.py:Net", input_shapes=SHAPE, resolution=32)


@pytest.mark.parametrize(
    ("model", "name", "classes"),
    [
        ("net.py:Net", "Net", 7),
        ("net.py:small", "small", 2),
        ("net.py:made", "made", 5),
        ("net:Net", "Net", 7),
    ],
)
def test_own_model(model: str, name: str, classes: int, folder: Path) -> None:
    network = models.load(model, input_shapes=[(2, 3, 9, 8)])
    assert (network.name, network.inputs) == (name, (TensorSpec((2, 3, 9, 8), "float32"),))
    assert isinstance(network.module, torch.nn.Module)
    assert not network.module.training
    assert network.module(torch.zeros(1, 3, 8, 8)).shape[1] == classes


def test_random_weights_are_the_same_every_time(folder: Path) -> None:
    first, second = (models.load("net.py:Net", input_shapes=SHAPE).module for _ in range(2))
    assert isinstance(first, torch.nn.Module)
    assert isinstance(second, torch.nn.Module)
    assert torch.equal(first.get_parameter("body.weight"), second.get_parameter("body.weight"))


def test_model_of_the_zoo_with_another_batch() -> None:
    network = models.load("squeezenet1_1", input_shapes=[(4, 3, 224, 224)])
    assert network.inputs == (TensorSpec((4, 3, 224, 224), "float32"),)


def export(folder: Path, dynamic: bool = False) -> Path:
    """Save a program with an input by keyword."""

    class Two(torch.nn.Module):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"masked": image * mask}

    shapes = {"image": {0: torch.export.Dim("batch")}, "mask": None} if dynamic else None
    program = torch.export.export(
        Two(), (torch.zeros(2, 4),), {"mask": torch.zeros(4)}, dynamic_shapes=shapes
    )
    path = folder / "two.pt2"
    torch.export.save(program, path)
    return path


def test_saved_program(tmp_path: Path) -> None:
    network = models.load(str(export(tmp_path)))
    assert network.inputs == (TensorSpec((2, 4), "float32"), TensorSpec((4,), "float32"))
    program = models.trace(network)
    assert (program.inputs, program.outputs) == (("image", "mask"), ("masked",))
    image, mask = torch.rand(2, 4), torch.rand(4)
    (masked,) = program.run([image.numpy(), mask.numpy()])
    assert (masked == (image * mask).numpy()).all()


def test_saved_program_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"exported for inputs of 2 x 4 .* not of 3 x 4"):
        models.load(str(export(tmp_path)), input_shapes=[(3, 4), (4,)])
    with pytest.raises(ModelError, match="--weights is not for a saved program"):
        models.load(str(export(tmp_path)), weights="weights.pt")
    with pytest.raises(ModelError, match=r"two.pt2 has a dynamic shape"):
        models.load(str(export(tmp_path, dynamic=True)))
    (tmp_path / "junk.pt2").write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"junk.pt2 cannot be read as a program"):
        models.load(str(tmp_path / "junk.pt2"))

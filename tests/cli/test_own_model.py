"""``tune`` on a user's own model, good and bad: exit codes, messages, nothing written too early."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tvm_eff
from tvm_eff.cli import tune

SOURCE = '''
import torch
from torch import nn


class Net(nn.Module):
    """Two inputs, of which one is whole numbers; a dictionary of outputs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU6())
        self.words = nn.Embedding(8, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, image, ids):
        features = self.body(image) + self.words(ids).mean(1)[:, :, None, None]
        return {"logits": self.head(features.mean((2, 3))), "maps": (features, features.amax(1))}


class Exotic(Net):
    def forward(self, image):
        return torch.linalg.svd(self.body(image))[1]
'''
OWN = ["--target", "host", "--trials", "1", "--logs", "logs", "--input-shape", "2,3,13,9"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's file, to stand in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SOURCE)
    torch.save({"body.0.weight": torch.zeros(1)}, tmp_path / "other.pt")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--model", "net.py:Nett"], "did you mean 'Net'"),
        (["--model", "absent.py:Net"], "no file absent.py"),
        (["--model", "net.py:Net"], "rejects an input of 2 x 3 x 13 x 9 float32"),
        (["--model", "net.py:Net", "--input-shape", "2,x"], "'2,x' is not a shape"),
        (["--model", "net.py:Net", "--input-dtype", "int46"], "did you mean 'int64'"),
        (
            ["--model", "net.py:Net", "--weights", "absent.pt"],
            "cannot read absent.pt: No such file",
        ),
        (["--model", "net.py:Net", "--weights", "other.pt"], "missing: body.0.bias"),
        (["--model", "net.py:Exotic"], "no operator '_linalg_svd.default' (net.py:22)"),
        (["--model", "squeezenet1_1"], "rejects an input of 2 x 3 x 13 x 9"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_user_mistake(
    arguments: list[str], wanted: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    try:
        code = tune.main([*OWN, *arguments])
    except SystemExit as left:  # argparse leaves so
        assert isinstance(left.code, int)
        code = left.code
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert wanted in err.replace(f"{folder}/", "")
    after = [
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    ]
    assert sorted(after) == before


def test_own_model(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "net.py:Net", "--input-shape", "2,4", "--input-dtype", "float32"]
    assert tune.main([*OWN, *arguments, "--input-dtype", "int64", "--json"]) == 0
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert result["bundle"] == "dist/Net-host"
    model = tvm_eff.load("dist/Net-host")
    assert [each.name for each in model.manifest.inputs] == ["image", "ids"]
    assert [each.name for each in model.manifest.outputs] == ["logits", "maps.0", "maps.1"]
    model.check()
    image, ids = np.ones((2, 3, 13, 9), "float32"), np.zeros((2, 4), "int64")
    assert [each.shape for each in model(image, ids)] == [(2, 5), (2, 16, 13, 9), (2, 13, 9)]

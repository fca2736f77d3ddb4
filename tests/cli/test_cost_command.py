"""``cost`` and ``models``: what they print, as tables and as JSON, and user's mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tvm_eff import models as zoo
from tvm_eff.cli import cost, models


def test_cost_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["squeezenet1_1", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["parameters"], found["macs"]) == (1_235_496, 349_151_936)
    assert sum(layer["macs"] for layer in found["layers"]) == found["macs"]
    assert len(found["factorized"]) == 8
    assert found["factorized"][0]["macs"] == found["factorized"][0]["predicted"] == "11/72"


def test_cost_as_tables(capfd: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["mobilenet", "--width", "0.25", "--resolution", "64"]) == 0
    out = capfd.readouterr().out
    assert "mobilenet_0.25_64, layer by layer" in out
    assert "features.13.pointwise.0" in out
    assert "470,072" in out
    assert "1/N + 1/(Kx Ky)" in out
    assert max(map(len, out.splitlines())) <= 120


def test_long_names_cost_no_figure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = "a_name_that_is_longer_than_any_column_of_the_table_could_ever_be_" * 2
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        self.{name} = nn.Conv2d(1024, 1000, 3, padding=1)\n"
        "    def forward(self, x):\n"
        f"        return self.{name}(x)\n"
    )
    assert cost.main([f"{tmp_path / 'net.py'}:Net", "--input-shape", "1,1024,32,32"]) == 0
    out = capfd.readouterr().out
    assert "…" not in out
    assert f"{1000 * 1024 * 9 * 32 * 32:,}" in out
    assert f"{1000 * (1024 * 9 + 1):,}" in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["sqeezenet"], "did you mean 'squeezenet'"),
        (["squeezenet", "--width", "0.5"], "no width multiplier"),
        (["squeezenet", "--resolution", "8"], "rejects an input of 1 x 3 x 8 x 8"),
        (["mobilenet", "--resolution", "no"], "'no' is not a whole number"),
        ([], "required: model"),
    ],
)
def test_user_mistake(arguments: list[str], wanted: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        code = cost.main(arguments)
    except SystemExit as left:  # argparse leaves so
        assert isinstance(left.code, int)
        code = left.code
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert wanted in err
    assert "Traceback" not in err


def test_list_of_models(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.main(["--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)}
    assert sorted(rows) == zoo.names()
    assert rows["xception"]["macs"] == 8_357_403_496
    assert rows["xception"]["parameters"] == 22_855_952
    few = ["flattened_cifar", "mobilenet"]  # to count all of them again takes long
    monkeypatch.setattr(zoo, "names", lambda: few)
    assert models.main([]) == 0
    out = capfd.readouterr().out
    for name in few:
        assert name in out
        assert f"{rows[name]['parameters']:,}" in out


def test_own_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\ndef net(): return nn.Conv2d(3, 8, 3)\n")
    arguments = [f"{tmp_path / 'net.py'}:net", "--input-shape", "1,3,10,10", "--json"]
    assert cost.main(arguments) == 0
    assert json.loads(capfd.readouterr().out)["macs"] == 8 * 64 * 27

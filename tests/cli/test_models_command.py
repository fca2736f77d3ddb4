"""``models``: the list of the zoo, as a table and as JSON."""

from __future__ import annotations

import json
import sys

import pytest

from tvm_eff import models as zoo
from tvm_eff.cli import __main__, models
from tvm_eff.errors import ModelError


def test_unknown_option(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        models.main(["--jsn"])
    assert left.value.code == 2
    assert "--jsn" in capfd.readouterr().err


def test_error_is_one_message(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise ModelError(f"no {name}")

    monkeypatch.setattr(zoo, "outline", fail)
    monkeypatch.setattr(zoo, "names", lambda: ["squeezenet"])
    assert models.main([]) == 2
    assert capfd.readouterr() == ("", "error: no squeezenet\n")


def test_json_says_what_the_table_says(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "names", lambda: ["mobilenet", "squeezenet1_1"])
    assert models.main(["--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)}
    assert rows["mobilenet"] == {
        "name": "mobilenet",
        "parameters": 4_231_976,
        "macs": 568_740_352,
        "input_shape": [1, 3, 224, 224],
        "paper": "arXiv:1704.04861",
        "summary": "version 1, table 1",
    }
    assert models.main([]) == 0
    lines = capfd.readouterr().out.splitlines()
    (line,) = [each for each in lines if " squeezenet1_1 " in each]
    assert line.split()[:5] == [
        "squeezenet1_1",
        "1,235,496",
        "349.2",
        "224x224",
        "arXiv:1602.07360",
    ]


def test_verb(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "names", lambda: ["flattened_cifar"])
    monkeypatch.setattr(sys, "argv", ["tvm-eff", "models"])
    assert __main__.main() == 0
    assert "flattened_cifar" in capfd.readouterr().out

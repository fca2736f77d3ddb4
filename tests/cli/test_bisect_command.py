"""``bisect``: its exit codes, what it prints, and one message for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import planted
import pytest

from tvm_eff.cli.bisect import main
from tvm_eff.deploy.bundle import Bundle


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return planted.write(tmp_path_factory.mktemp("right") / "net")


def test_right(right: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(right.folder), "--model", planted.MODEL, "--on", "host", "--json"]) == 0
    printed = capsys.readouterr()
    data = json.loads(printed.out)
    assert (data["right"], data["finding"], data["model"]) == (True, None, "Net")
    assert data["compared"] == data["kernels"] == 8
    assert printed.err == ""


def test_wrong(right: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = planted.corrupted(right, tmp_path / "net", 1, 1)
    words = [str(made.folder), "--model", planted.MODEL, "--output", str(tmp_path / "shown")]
    assert main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "kernel 2 of 8 is the first that is wrong" in lines[0]
    named = [line.split()[0] for line in lines[1:]]
    assert sorted(set(named)) == ["cause", "computes", "difference", "kernel", "schedule", "script"]
    assert lines[-1].endswith(f"python {tmp_path / 'shown' / 'reproduce.py'}")
    assert (tmp_path / "shown" / "reproduce.py").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["BUNDLE"], "give what it was built from: --model FILE.py:NAME"),
        (["BUNDLE", "--on", "mars"], "'mars' is no device"),
        (["BUNDLE", "--model", "nowhere.py:Net"], "nowhere.py"),
        (["nowhere"], "there is no bundle nowhere"),
    ],
)
def test_misuse(
    right: Bundle, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(right.folder) if word == "BUNDLE" else word for word in words]
    assert main(given) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1

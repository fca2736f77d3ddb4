"""The script that counts what each schedule rule makes of single layers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from result_files import result_of
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import results_file  # noqa: E402
import rules  # noqa: E402
from loops.layers import Layer  # noqa: E402

SMALL = Layer("3x3 of 16", nn.Conv2d(16, 16, 3, padding=1), (1, 16, 12, 12))


def test_a_target_without_an_emulator_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert rules.main(["host"]) == 2
    assert "target host has no emulator" in capsys.readouterr().err


def test_a_layer_in_every_dtype(
    emulator: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(rules, "layers", lambda: (SMALL,))
    written = tmp_path / "rules.json"
    options = ["--trials", "3", "--json", str(written)]
    assert rules.main(["rasp4", "rasp5", *options]) == 0
    rows = results_file.read(written).data["layers"]
    found = {(row["target"], row["dtype"], row["rule"]): row for row in rows}
    for dtype, rule in (("float32", "winograd"), ("int8", "winograd_bytes")):
        assert 0 < found["rasp4", dtype, rule]["instructions"] < 1
    assert ("rasp5", "int8", "winograd_bytes") not in found
    half = found["rasp5", "float16", "half_tile"]
    assert half["instructions"] < found["rasp5", "float32", "register_tile"]["instructions"]
    assert half["error"] > 0
    shown = capsys.readouterr().out
    assert "## cortex-a72" in shown
    assert f"| {half['instructions']:.3f} |" in shown


def test_what_was_too_far_off_is_said() -> None:
    row = {"layer": "one", "cpu": "cortex-a76", "dtype": "float16", "rule": "winograd_half"}
    figures = {"instructions": 0.1, "tried": 4, "refused": 3}
    none = {**row, "layer": "two", "instructions": None, "tried": 2, "refused": 2}
    shown = rules.markdown(result_of({"layers": [{**row, **figures}, none]}))
    assert "| one | 0.100 (3 of 4) |" in shown
    assert "| two | none (2 of 2) |" in shown

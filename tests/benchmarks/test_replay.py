"""The script that shows whether a change left every kernel's code as it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import replay  # noqa: E402


def test_a_gpu_in_each_dtype_of_the_zoo(tmp_path: Path) -> None:
    """No network of the zoo is in int8 before it is quantized."""
    written = tmp_path / "before.json"
    options = ["--target", "rk3399-mali", "--model", "flattened_cifar"]
    assert replay.main(["--write", str(written), *options]) == 0
    found = json.loads(written.read_text())
    assert set(found) == {"rk3399-mali", "rk3399-mali float16"}

    changed = json.loads(written.read_text())
    assert list(replay.differences(found, changed)) == []
    changed["rk3399-mali"]["networks"]["flattened_cifar"]["main"] = "0" * 16
    assert list(replay.differences(found, changed)) != []

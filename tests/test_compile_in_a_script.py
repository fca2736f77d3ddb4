"""``tvm_eff.compile`` in a script without a guard, whose module the builders import too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tvm_eff

SCRIPT = """
import torch
import tvm_eff
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
bundle = tvm_eff.compile(
    model.eval(), torch.randn(1, 3, 8, 8), trials=1, logs="logs", output="dist", name="net"
)
print("compiled once", bundle.error < 1e-5, bundle.report.failed)
"""


@pytest.mark.parametrize("way", ["file", "standard input"])
def test_script_without_a_guard(way: str, tmp_path: Path) -> None:
    # The builder's processes import the script too.
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, *([script] if way == "file" else [])],
        input=SCRIPT if way == "standard input" else "",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(tvm_eff.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "compiled once True 0\n"), done.stderr

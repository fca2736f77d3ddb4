"""The comparison of tuners through its command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/tuning.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_an_unknown_model_is_named_before_anything_is_tuned(tmp_path: Path) -> None:
    done = _run("--model", "squeezenet9", "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "squeezenet9" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_budget_that_is_no_time_is_refused() -> None:
    done = _run("--budget", "soon")
    assert done.returncode == 2
    assert "soon" in done.stderr and "Traceback" not in done.stderr

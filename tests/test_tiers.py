"""What the tiers of tests name is there, and the fast one enters every room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiers import SERIAL, SLOW, is_named

ROOT = Path(__file__).resolve().parents[1]


def collected(*options: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.fixture(scope="module")
def every_test() -> list[str]:
    return collected()


@pytest.mark.parametrize("pattern", sorted({*SLOW, *SERIAL}))
def test_pattern_names_something(pattern: str, every_test: list[str]) -> None:
    assert any(is_named(test, [pattern]) for test in every_test)


def test_fast_tests_enter_every_room(every_test: list[str]) -> None:
    fast = collected("-m", "fast")
    assert 0 < len(fast) < len(every_test)
    assert rooms(fast) == rooms(every_test)


def rooms(tests: list[str]) -> set[str]:
    files = (Path(test.partition("::")[0]) for test in tests)
    return {file.parts[1] for file in files if len(file.parts) > 2}

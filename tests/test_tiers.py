"""What the tiers of tests name is there, and the fast one enters every room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from tiers import SLOW, TIMED, WAITING, is_named, may_be_serial

ROOT = Path(__file__).resolve().parents[1]


# Prints each test as a line, and whether it is fast.
COLLECT = """
import pytest

class Printed:
    def pytest_collection_finish(self, session):
        for each in session.items:
            print("::", each.get_closest_marker("fast") is not None, each.nodeid)

raise SystemExit(pytest.main(["--collect-only", "-p", "no:cacheprovider"], [Printed()]))
"""


@pytest.fixture(scope="module")
def is_fast() -> dict[str, bool]:
    """Whether a test is fast, by each test's name."""
    command = [sys.executable, "-c", COLLECT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(" ", 2) for line in done.stdout.splitlines() if line.startswith(":: ")]
    return {test: fast == "True" for _, fast, test in lines}


@pytest.mark.parametrize("pattern", sorted({*SLOW, *TIMED, *WAITING}))
def test_pattern_names_something(pattern: str, is_fast: dict[str, bool]) -> None:
    assert any(is_named(test, [pattern]) for test in is_fast)


def test_files_of_serial_tests_are_read(is_fast: dict[str, bool]) -> None:
    serial = {test.partition("::")[0] for test in is_fast if is_named(test, TIMED + WAITING)}
    read = {file for test in is_fast if may_be_serial(file := test.partition("::")[0])}
    assert serial <= read
    assert len(read) < 2 * len(serial)


def test_fast_tests_enter_every_room(is_fast: dict[str, bool]) -> None:
    fast = [test for test, is_one in is_fast.items() if is_one]
    assert 0 < len(fast) < len(is_fast)
    assert rooms(fast) == rooms(is_fast)


def rooms(tests: Iterable[str]) -> set[str]:
    files = (Path(test.partition("::")[0]) for test in tests)
    return {file.parts[1] for file in files if len(file.parts) > 2}

"""What the tiers of tests name is there, and the fast one enters every room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from tiers import EXHAUSTIVE, ONE_IN, SLOW, TIMED, WAITING, is_named, may_be_serial

ROOT = Path(__file__).resolve().parents[1]


# Prints each test as a line, after its markers of tiers.
COLLECT = """
import pytest

class Printed:
    def pytest_collection_finish(self, session):
        for each in session.items:
            marks = {"exhaustive", "fast", "serial"} & {mark.name for mark in each.iter_markers()}
            print("::", ",".join(sorted(marks)) or "-", each.nodeid)

raise SystemExit(pytest.main(["--collect-only", "-p", "no:cacheprovider"], [Printed()]))
"""


@pytest.fixture(scope="module")
def tiers_of() -> dict[str, set[str]]:
    """The tiers that a test is in, by each test's name."""
    command = [sys.executable, "-c", COLLECT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(" ", 2) for line in done.stdout.splitlines() if line.startswith(":: ")]
    return {test: set(marks.split(",")) for _, marks, test in lines}


@pytest.mark.parametrize("pattern", sorted({*EXHAUSTIVE, *ONE_IN, *SLOW, *TIMED, *WAITING}))
def test_pattern_names_something(pattern: str, tiers_of: dict[str, set[str]]) -> None:
    assert any(is_named(test, [pattern]) for test in tiers_of)


def test_files_of_serial_tests_are_read(tiers_of: dict[str, set[str]]) -> None:
    serial = {test.partition("::")[0] for test in tiers_of if is_named(test, TIMED + WAITING)}
    read = {file for test in tiers_of if may_be_serial(file := test.partition("::")[0])}
    assert serial <= read
    assert len(read) < 2 * len(serial)


def test_fast_tests_enter_every_room(tiers_of: dict[str, set[str]]) -> None:
    fast = [test for test, tiers in tiers_of.items() if "fast" in tiers]
    assert 0 < len(fast) < len(tiers_of)
    assert rooms(fast) == rooms(tiers_of)


def test_of_every_function_ci_runs_a_case(tiers_of: dict[str, set[str]]) -> None:
    left_out = {test for test, tiers in tiers_of.items() if "exhaustive" in tiers}
    assert all(tiers_of[test] == {"exhaustive"} for test in left_out)
    # A pattern that names many tests of one case each would leave out nothing, and say it does.
    assert all(any(is_named(test, [pattern]) for test in left_out) for pattern in ONE_IN)
    run = {test.partition("[")[0] for test in tiers_of.keys() - left_out}
    of_many = {test.partition("[")[0] for test in left_out if not is_named(test, EXHAUSTIVE)}
    assert of_many <= run


def rooms(tests: Iterable[str]) -> set[str]:
    files = (Path(test.partition("::")[0]) for test in tests)
    return {file.parts[1] for file in files if len(file.parts) > 2}

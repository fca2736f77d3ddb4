"""Damaged files of all kinds: taken or refused, never anything else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import fuzz  # noqa: E402

MUTATIONS = 100


def test_mutations() -> None:
    outcomes, defects = fuzz.fuzz([*fuzz.FOUND, *range(MUTATIONS)])
    assert defects == []
    assert sum(outcomes.values()) == MUTATIONS + len(fuzz.FOUND)
    # Neither is a fuzzer that damages nothing, or everything beyond reading.
    assert outcomes["refused"] > MUTATIONS / 2
    assert outcomes["taken"] > MUTATIONS / 100


ANSWERS = """
import os, signal, sys, time
kind = sys.argv[0]
for line in sys.stdin:
    {}
"""


@pytest.mark.parametrize(
    ("reader", "told"),
    [
        ("os.abort()", "crashed (-6)"),
        ("signal.alarm(1); time.sleep(20)", "took longer than"),
        ("""print('{"kind": "wrong", "what": "KeyError"}', flush=True)""", "KeyError"),
    ],
)
def test_what_is_wrong_is_told(
    reader: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(ANSWERS.format(reader))
    monkeypatch.setattr(fuzz, "WORKER", worker)
    _, defects = fuzz.fuzz([7, 8])
    assert [each.partition(":")[0] for each in defects] == ["7", "8"]
    assert all(told in each for each in defects)

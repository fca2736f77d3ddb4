"""The cost model ranks by what is on record, the same way each time, and leaves room for doubt."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from kernels import HOST, small_convolution
from records import measured, opened

from tvm_eff import schedules
from tvm_eff.schedules import Candidate
from tvm_eff.tune import RecordStore
from tvm_eff.tune.cost_model import CostModel

TASK = small_convolution()
ALL = schedules.candidates(TASK.func, HOST)
MEASURED, LEFT = ALL[::2], ALL[1::2]


def store(folder: Path) -> RecordStore:
    """Return records in which more rows are faster."""
    records = opened(folder)
    for each in MEASURED:
        value = 1.0 / each["rows"]
        records.add(measured(TASK, each, value))
    return records


def model(records: RecordStore) -> CostModel:
    return CostModel([TASK], {TASK.name: ALL}, records)


def test_without_xgboost_the_order_stays_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with caplog.at_level(logging.WARNING):
        without = model(store(tmp_path))
        assert without.rank(TASK, LEFT) == without.rank(TASK, LEFT) == LEFT
    (message,) = caplog.messages
    assert "xgboost" in message
    assert "pip install" in message


def test_without_records_the_order_stays(tmp_path: Path) -> None:
    assert model(opened(tmp_path)).rank(TASK, LEFT) == LEFT


def test_failures_say_nothing(tmp_path: Path) -> None:
    records = opened(tmp_path)
    for each in MEASURED:
        records.add(measured(TASK, each, failure="it crashed"))
    assert model(records).rank(TASK, LEFT) == LEFT


def test_what_was_fast_comes_first_but_for_every_fourth(tmp_path: Path) -> None:
    slowest_first = sorted(LEFT, key=lambda each: each["rows"])
    ranked = model(store(tmp_path)).rank(TASK, slowest_first)
    assert sorted(ranked, key=str) == sorted(LEFT, key=str)
    assert _rows(ranked)[:3] == _rows(slowest_first)[:-4:-1]
    assert ranked[3] == slowest_first[0]


def test_records_alone_decide(tmp_path: Path) -> None:
    one, other = model(store(tmp_path / "one")), model(store(tmp_path / "other"))
    assert one.rank(TASK, LEFT) == other.rank(TASK, LEFT) == one.rank(TASK, LEFT)


def test_the_model_learns_from_what_is_measured_meanwhile(tmp_path: Path) -> None:
    records = store(tmp_path)
    asked = model(records)
    before = asked.rank(TASK, LEFT)
    for each in LEFT[:-3]:
        value = float(each["rows"])
        records.add(measured(TASK, each, value))
    for each in MEASURED:
        value = float(each["rows"])
        records.add(measured(TASK, each, value))
    assert _rows(asked.rank(TASK, LEFT))[:3] == sorted(_rows(LEFT))[:3]
    assert _rows(before)[:3] == sorted(_rows(LEFT), reverse=True)[:3]


def _rows(candidates: list[Candidate]) -> list[int]:
    return [each["rows"] for each in candidates]

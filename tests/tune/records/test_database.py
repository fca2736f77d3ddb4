"""The winners in MetaSchedule's files: stock readers read them, damage is named, and mended."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tvm
from kernels import HOST, small_convolution, tasks_of
from records import add, measured, opened
from torch import nn
from tvm.s_tir import meta_schedule as ms

from tvm_eff import schedules
from tvm_eff.errors import RecordError
from tvm_eff.schedules import Candidate
from tvm_eff.tune import RecordStore
from tvm_eff.tune.records.database import WINNERS, Winner
from tvm_eff.tune.records.store import RECORDS, WORKLOADS

DATABASE = (WORKLOADS, RECORDS, WINNERS)
TASK = small_convolution()
PLAN = schedules.candidates(TASK.func, HOST)


@pytest.fixture
def filled(tmp_path: Path) -> RecordStore:
    """A store with two measurements."""
    return add(opened(tmp_path), measured(TASK, PLAN[0], 2e-3), measured(TASK, PLAN[1], 1e-3))


def winner(candidate: Candidate, value: float) -> Winner:
    return Winner(TASK, candidate, value)


def test_stock_metaschedule_reads_the_winners(filled: RecordStore) -> None:
    filled.write_winners([winner(PLAN[0], 2e-3)])
    filled.write_winners([winner(PLAN[1], 1e-3)])
    stock = ms.database.JSONDatabase(
        str(filled.folder / WORKLOADS), str(filled.folder / RECORDS), allow_missing=False
    )
    assert len(stock) == 1
    assert stock.has_workload(TASK.module)
    found = stock.query_tuning_record(TASK.module, HOST.tvm_target(), "main")
    assert [float(each) for each in found.run_secs] == [1e-3]
    wanted = schedules.apply(TASK.func, PLAN[1], HOST)
    assert str(found.trace) == str(wanted.trace)


def test_winners_that_are_there_are_not_written_again(filled: RecordStore) -> None:
    filled.write_winners([winner(PLAN[1], 1e-3)])
    before = {name: (filled.folder / name).stat().st_mtime_ns for name in DATABASE}
    filled.write_winners([winner(PLAN[1], 1e-3)])
    assert {name: (filled.folder / name).stat().st_mtime_ns for name in DATABASE} == before


@pytest.mark.parametrize("name", [WORKLOADS, RECORDS])
def test_lost_file_of_the_database_is_written_again(name: str, filled: RecordStore) -> None:
    filled.write_winners([winner(PLAN[1], 1e-3)])
    (filled.folder / name).unlink()
    if name == WORKLOADS:
        (filled.folder / RECORDS).unlink()
    filled.write_winners([winner(PLAN[1], 1e-3)])
    assert all((filled.folder / each).is_file() for each in DATABASE)


@pytest.mark.parametrize("name", [WORKLOADS, RECORDS])
@pytest.mark.parametrize("line", ["{}", "[]", "5", "half a li"])
def test_damaged_database_names_the_line(name: str, line: str, filled: RecordStore) -> None:
    filled.write_winners([winner(PLAN[0], 2e-3)])
    with (filled.folder / name).open("a") as file:
        file.write(line + "\n")
    path = re.escape(str(filled.folder / name))
    with pytest.raises(RecordError, match=f"{path}, line 2: not a .*made from the measurements"):
        filled.write_winners([winner(PLAN[1], 1e-3)])


@pytest.mark.parametrize("content", ["[", "[" * 100_000])
def test_damaged_names_of_winners(content: str, filled: RecordStore) -> None:
    (filled.folder / WINNERS).write_text(content)
    with pytest.raises(RecordError, match=f"{filled.folder / WINNERS}.*remove it"):
        filled.write_winners([winner(PLAN[1], 1e-3)])


def test_temporary_folder_that_is_gone(
    filled: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(RecordError, match=r"cannot write to the temporary folder .*/gone.*TMPDIR"):
        filled.write_winners([winner(PLAN[1], 1e-3)])


WRITER = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from test_database import add_winners_of
add_winners_of(Path(sys.argv[1]), int(sys.argv[2]))
"""


def add_winners_of(folder: Path, number: int) -> None:
    """Write, with a store opened before anybody wrote, winners of a network of one's own."""
    store = opened(folder)
    print("ready", flush=True)
    sys.stdin.readline()
    for channels in range(1, 3):
        model = nn.ReLU() if number else nn.Sigmoid()
        (task,) = tasks_of(model, (1, channels, 7))
        (candidate,) = schedules.candidates(task.func, HOST)
        store.add(measured(task, candidate, 1e-3))
        store.write_winners([Winner(task, candidate, 1e-3)])


def test_two_sessions_at_once(tmp_path: Path) -> None:
    # Winners name their workload by its line: each session must see the other's lines.
    code = WRITER.format(path=[str(Path(__file__).parent), *sys.path])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.communicate(b"go\n", timeout=120)
        assert writer.returncode == 0

    store = opened(tmp_path)
    stock = ms.database.JSONDatabase(str(store.folder / WORKLOADS), str(store.folder / RECORDS))
    for channels in range(1, 3):
        for model in (nn.ReLU(), nn.Sigmoid()):
            (task,) = tasks_of(model, (1, channels, 7))
            assert store.best(task.workload) is not None
            scheduled = stock.query_schedule(task.module, HOST.tvm_target(), "main")
            (candidate,) = schedules.candidates(task.func, HOST)
            wanted = schedules.apply(task.func, candidate, HOST)
            tvm.ir.assert_structural_equal(scheduled.mod, wanted.mod)

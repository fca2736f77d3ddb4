"""Records on disk: what a crash, a full disk or a stray hand leaves, and what is read back."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tvm
from kernels import HOST, small_convolution, tasks_of
from torch import nn
from tvm.s_tir import meta_schedule as ms

from tvm_eff import schedules, targets
from tvm_eff.errors import RecordError
from tvm_eff.schedules import Candidate
from tvm_eff.tune import Record, RecordStore
from tvm_eff.tune.records.store import MEASUREMENTS, RECORDS, WORKLOADS

FILES = (MEASUREMENTS, WORKLOADS, RECORDS)
RASP4 = targets.load("rasp4")


def opened(folder: Path) -> RecordStore:
    return RecordStore(folder, HOST, "seconds")


def measured(number: int, value: float = 1e-3, failure: str | None = None) -> Record:
    return Record(
        workload=small_convolution().workload,
        task="small_convolution",
        candidate=Candidate.of("register_tile", {"rows": number, "order": 0}),
        unit="seconds",
        values=() if failure else (value, value * 1.1, value * 0.9),
        failure=failure,
        error=None if failure else 1e-7,
        device={"kind": "local", "where": "a test"},
        versions={"tvm": "0.27"},
    )


def commit(store: RecordStore, number: int, value: float) -> Record:
    """Add a real candidate as measured and commit its schedule."""
    task = small_convolution()
    candidate = schedules.candidates(task.func, HOST)[number]
    record = replace(measured(0, value), candidate=candidate)
    store.add(record)
    store.commit(task, record, schedules.apply(task.func, candidate, HOST))
    return record


@pytest.fixture
def filled(tmp_path: Path) -> RecordStore:
    """A store with three measurements, two of them winners in their time."""
    store = opened(tmp_path)
    commit(store, 0, 2e-3)
    commit(store, 1, 1e-3)
    store.add(measured(7, failure="it crashed"))
    return store


@pytest.mark.parametrize("name", FILES)
def test_torn_last_line_is_dropped(
    name: str, filled: RecordStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled.folder / name
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:-9])
    with caplog.at_level(logging.WARNING):
        store = opened(tmp_path)
    assert f"{path}: the last line was cut short" in caplog.text
    assert path.read_bytes() == whole
    assert_complete(store)
    # The next append starts a line of its own.
    commit(store, 2, 5e-4)
    store.add(measured(8))
    assert opened(tmp_path).find(measured(8).workload, measured(8).candidate) == measured(8)
    assert opened(tmp_path).committed(small_convolution()) == 5e-4


@pytest.mark.parametrize("name", FILES)
def test_last_line_without_its_newline_is_kept(
    name: str, filled: RecordStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled.folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert_complete(opened(tmp_path))
    assert path.read_bytes() == whole
    assert caplog.text == ""


@pytest.mark.parametrize("name", FILES)
def test_empty_or_missing_file(name: str, tmp_path: Path) -> None:
    opened(tmp_path)
    path = next(tmp_path.glob("*/seconds")) / name
    path.write_bytes(b"")
    assert opened(tmp_path).committed(small_convolution()) == float("inf")
    path.unlink()
    assert opened(tmp_path).best(small_convolution().workload) is None


@pytest.mark.parametrize("garbage", [b"\x00\xff\xfe", b"{'a': 1}", b"", b"half a line"])
@pytest.mark.parametrize("name", FILES)
def test_garbage_in_the_middle(
    name: str, garbage: bytes, filled: RecordStore, tmp_path: Path
) -> None:
    path = filled.folder / name
    first, *rest = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([first, garbage + b"\n", *(rest or [first])])
    path.write_bytes(damaged)
    with pytest.raises(RecordError, match=f"{path}, line 2: not JSON; remove the line"):
        opened(tmp_path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("line", ["{}", "[]", "5", '"text"', "[1, 2, 3]", "null", '[0, {"a": 1}]'])
@pytest.mark.parametrize("name", FILES)
def test_json_that_is_no_record(name: str, line: str, filled: RecordStore, tmp_path: Path) -> None:
    with (filled.folder / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RecordError, match=f"{filled.folder / name}, line .*: not a .*remove"):
        opened(tmp_path)


def change(line: dict[str, object], **fields: object) -> dict[str, object]:
    return {**line, **fields}


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: change(line, target="rasp4"),
        lambda line: change(line, unit="instructions"),
        lambda line: change(line, unit="furlongs"),
        lambda line: change(line, temperature=60),
        lambda line: change(line, workload=5),
        lambda line: change(line, task=None),
        lambda line: change(line, values="0.001"),
        lambda line: change(line, values=[]),
        lambda line: change(line, values=["0.001"]),
        lambda line: change(line, values=None),
        lambda line: change(line, values=[float("nan")]),
        lambda line: change(line, values=[-1.0]),
        lambda line: change(line, failure=5),
        lambda line: change(line, error="small"),
        lambda line: change(line, device="a board"),
        lambda line: change(line, versions={"tvm": 0.27}),
        lambda line: change(line, candidate="register_tile"),
        lambda line: change(line, candidate={"rows": 7}),
        lambda line: change(line, candidate={"rule": "register_tile", "rows": "7"}),
        lambda line: change(line, candidate={"rule": 5, "rows": 7}),
        lambda line: {key: value for key, value in line.items() if key != "target"},
        lambda line: {key: value for key, value in line.items() if key != "workload"},
        lambda line: {key: value for key, value in line.items() if key != "candidate"},
    ],
)
def test_measurement_that_cannot_be_meant(
    damage: Callable[[dict[str, object]], object], filled: RecordStore, tmp_path: Path
) -> None:
    path = filled.folder / MEASUREMENTS
    lines = path.read_text().splitlines()
    lines[1] = json.dumps(damage(json.loads(lines[1])))
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordError, match=f"{path}, line 2: not a measurement"):
        opened(tmp_path)


def test_records_of_another_target(filled: RecordStore, tmp_path: Path) -> None:
    foreign = RecordStore(tmp_path / "others", RASP4, "seconds")
    (foreign.folder / MEASUREMENTS).write_bytes((filled.folder / MEASUREMENTS).read_bytes())
    with pytest.raises(RecordError, match="another target than rasp4"):
        RecordStore(tmp_path / "others", RASP4, "seconds")


def test_units_and_targets_are_kept_apart(filled: RecordStore, tmp_path: Path) -> None:
    workload = small_convolution().workload
    assert opened(tmp_path).best(workload) is not None
    assert RecordStore(tmp_path, HOST, "instructions").best(workload) is None
    assert RecordStore(tmp_path, RASP4, "seconds").best(workload) is None


def test_winners_without_their_workload(filled: RecordStore, tmp_path: Path) -> None:
    (filled.folder / WORKLOADS).write_bytes(b"")
    with pytest.raises(RecordError, match=f"{RECORDS}, line 1: .*{WORKLOADS} has no workload 0"):
        opened(tmp_path)


@pytest.mark.parametrize("at", ["", "seconds"])
def test_folder_that_cannot_be_made(at: str, tmp_path: Path) -> None:
    in_the_way = tmp_path / HOST.log_name / at
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("a file")
    with pytest.raises(RecordError, match=r"cannot make the log folder .*--logs FOLDER"):
        opened(tmp_path)
    assert in_the_way.read_text() == "a file"


@pytest.mark.parametrize("name", FILES)
def test_folder_in_the_place_of_a_file(name: str, tmp_path: Path) -> None:
    folder = tmp_path / HOST.log_name / "seconds" / name
    folder.mkdir(parents=True)
    with pytest.raises(RecordError, match=str(folder)):
        opened(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
@pytest.mark.parametrize("name", [MEASUREMENTS, RECORDS])
def test_full_disk(name: str, tmp_path: Path) -> None:
    store = opened(tmp_path)
    (store.folder / name).unlink(missing_ok=True)
    (store.folder / name).symlink_to("/dev/full")
    with pytest.raises(RecordError, match=f"cannot write .*{name}: No space left.*nothing.*lost"):
        commit(store, 0, 1e-3)
    # With room again, the same is written, and once.
    (store.folder / name).unlink()
    store = opened(tmp_path)
    commit(store, 0, 1e-3)
    assert opened(tmp_path).committed(small_convolution()) == 1e-3


def test_temporary_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(RecordError, match=r"cannot write to the temporary folder .*/gone.*TMPDIR"):
        commit(store, 0, 1e-3)
    # The measurement is there; its schedule can be committed later.
    assert opened(tmp_path).best(small_convolution().workload) is not None
    assert opened(tmp_path).committed(small_convolution()) == float("inf")


def test_what_was_added_is_found(filled: RecordStore, tmp_path: Path) -> None:
    for store in (filled, opened(tmp_path)):
        assert_complete(store)
        unknown = Candidate.of("register_tile", {"rows": 99})
        assert store.find(small_convolution().workload, unknown) is None
        assert store.find("another workload", measured(7).candidate) is None


def assert_complete(store: RecordStore) -> None:
    task = small_convolution()
    failure = measured(7, failure="it crashed")
    assert store.find(task.workload, failure.candidate) == failure
    best = store.best(task.workload)
    assert best is not None
    assert best.candidate == schedules.candidates(task.func, HOST)[1]
    assert best.value == best.values[0] == 1e-3
    assert store.committed(task) == 1e-3


def test_a_failure_is_never_best(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(measured(1, failure="wrong result"))
    assert store.best(small_convolution().workload) is None
    store.add(measured(2, 5.0))
    best = opened(tmp_path).best(small_convolution().workload)
    assert best == measured(2, 5.0)


def test_the_slower_of_two_winners_is_not_used(tmp_path: Path) -> None:
    store = opened(tmp_path)
    fast = commit(store, 3, 1e-3)
    commit(store, 4, 2e-3)
    for each in (store, opened(tmp_path)):
        assert each.committed(small_convolution()) == 1e-3
        found = each.database.query_tuning_record(
            small_convolution().module, HOST.tvm_target(), "main"
        )
        scheduled = schedules.apply(small_convolution().func, fast.candidate, HOST)
        assert str(found.trace) == str(scheduled.trace)


def test_stock_metaschedule_reads_the_winners(filled: RecordStore) -> None:
    stock = ms.database.JSONDatabase(
        str(filled.folder / WORKLOADS), str(filled.folder / RECORDS), allow_missing=False
    )
    assert len(stock) == 2
    task = small_convolution()
    assert stock.has_workload(task.module)
    found = stock.query_tuning_record(task.module, HOST.tvm_target(), "main")
    assert [float(each) for each in found.run_secs] == [1e-3]
    wanted = schedules.apply(task.func, schedules.candidates(task.func, HOST)[1], HOST)
    assert str(found.trace) == str(wanted.trace)


WRITER = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from test_records import commit_one_of
commit_one_of(Path(sys.argv[1]), int(sys.argv[2]))
"""


def commit_one_of(folder: Path, number: int) -> None:
    """Commit, with a store opened before anybody wrote, winners of a network of one's own."""
    store = opened(folder)
    print("ready", flush=True)
    sys.stdin.readline()
    for channels in range(1, 3):
        model = nn.ReLU() if number else nn.Sigmoid()
        (task,) = tasks_of(model, (1, channels, 7))
        (candidate,) = schedules.candidates(task.func, HOST)
        record = replace(measured(0), workload=task.workload, candidate=candidate)
        store.add(record)
        store.commit(task, record, schedules.apply(task.func, candidate, HOST))


def test_two_sessions_at_once(tmp_path: Path) -> None:
    # Winners name their workload by its line: each session must see the other's lines.
    code = WRITER.format(path=sys.path)
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
    for channels in range(1, 3):
        for model in (nn.ReLU(), nn.Sigmoid()):
            (task,) = tasks_of(model, (1, channels, 7))
            assert store.best(task.workload) is not None
            scheduled = store.database.query_schedule(task.module, HOST.tvm_target(), "main")
            (candidate,) = schedules.candidates(task.func, HOST)
            wanted = schedules.apply(task.func, candidate, HOST)
            tvm.ir.assert_structural_equal(scheduled.mod, wanted.mod)

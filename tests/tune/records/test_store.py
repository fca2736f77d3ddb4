"""Records on disk: what a crash, a full disk or a stray hand leaves, and what is read back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tvm
from kernels import HOST, small_convolution
from records import HERE, add, measured, opened

from tvm_eff import schedules, targets
from tvm_eff.device import MachineIdentity
from tvm_eff.errors import RecordError
from tvm_eff.passes import pipeline
from tvm_eff.schedules import UNSCHEDULED, Candidate
from tvm_eff.tune import Record, RecordStore
from tvm_eff.tune.records import generation
from tvm_eff.tune.records.database import WINNERS
from tvm_eff.tune.records.measurements import encode_definition
from tvm_eff.tune.records.store import MEASUREMENTS, RECORDS, WORKLOADS

DATABASE = (WORKLOADS, RECORDS, WINNERS)
RASP4 = targets.load("rasp4")
TASK = small_convolution()
PLAN = schedules.candidates(TASK.func, HOST)
FAILED = measured(TASK, PLAN[7], failure="it crashed")


@pytest.fixture
def filled(tmp_path: Path) -> RecordStore:
    """A store with three measurements, the second of which is the best."""
    store = opened(tmp_path)
    return add(store, measured(TASK, PLAN[0], 2e-3), measured(TASK, PLAN[1], 1e-3), FAILED)


def lines_of(store: RecordStore) -> list[dict[str, object]]:
    return [json.loads(line) for line in (store.folder / MEASUREMENTS).read_text().splitlines()]


def rewrite(store: RecordStore, lines: list[dict[str, object]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (store.folder / MEASUREMENTS).write_text(text)


def assert_complete(store: RecordStore) -> None:
    assert store.find(TASK.workload, FAILED.candidate) == FAILED
    best = store.best(TASK.workload)
    assert best is not None and (best.candidate, best.value) == (PLAN[1], 1e-3)
    assert not store.is_prior(best)


# What a crash or a stray hand leaves.


def test_torn_last_line_is_dropped(
    filled: RecordStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled.folder / MEASUREMENTS
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:-9])
    with caplog.at_level(logging.WARNING):
        store = opened(tmp_path)
    assert f"{path}: the last line was cut short" in caplog.text
    assert path.read_bytes() == whole
    assert_complete(store)
    # The next append starts a line of its own.
    added = measured(TASK, PLAN[8], 5.0)
    store.add(added)
    assert opened(tmp_path).find(TASK.workload, PLAN[8]) == added


def test_line_behind_another_sessions_torn_one_is_not_lost(
    filled: RecordStore, tmp_path: Path
) -> None:
    path = filled.folder / MEASUREMENTS
    with path.open("ab") as file:
        file.write(b'{"kind": "measurement", "tar')
    added = measured(TASK, PLAN[8], 5.0)
    filled.add(added)
    assert_complete(opened(tmp_path))
    assert opened(tmp_path).find(TASK.workload, PLAN[8]) == added


def test_last_line_without_its_newline_is_kept(
    filled: RecordStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled.folder / MEASUREMENTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert_complete(opened(tmp_path))
    assert path.read_bytes() == whole
    assert caplog.text == ""


@pytest.mark.parametrize("content", [b"", None])
def test_empty_or_missing_file(content: bytes | None, tmp_path: Path) -> None:
    path = opened(tmp_path).folder / MEASUREMENTS
    if content is not None:
        path.write_bytes(content)
    assert opened(tmp_path).best(TASK.workload) is None


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\xfe", b"{'a': 1}", b"", b"half a line", b"{}\r{}", DEEP]
)
def test_garbage_in_the_middle(garbage: bytes, filled: RecordStore, tmp_path: Path) -> None:
    path = filled.folder / MEASUREMENTS
    first, *rest = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([first, garbage + b"\n", *rest])
    path.write_bytes(damaged)
    with pytest.raises(RecordError, match=f"{path}, line 2: not JSON; remove the line"):
        opened(tmp_path)
    assert path.read_bytes() == damaged


def test_a_last_line_of_brackets(filled: RecordStore, tmp_path: Path) -> None:
    path = filled.folder / MEASUREMENTS
    whole = path.read_bytes()
    path.write_bytes(whole + DEEP)
    assert_complete(opened(tmp_path))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ["{}", "[]", "5", '"text"', "[1, 2, 3]", "null", '{"kind": 5}'])
def test_json_that_is_no_record(line: str, filled: RecordStore, tmp_path: Path) -> None:
    with (filled.folder / MEASUREMENTS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RecordError, match=r"line 6: not a measurement .*remove the line"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda line: {**line, "values": [1e-9]},
        lambda line: {**line, "candidate": {**line["candidate"], "rows": 1}},
        lambda line: {**line, "workload": "17"},
        lambda line: {**line, "target": "rasp4"},
        lambda line: {**line, "temperature": 60},
        lambda line: {**line, "check": "00000000"},
        lambda line: {key: value for key, value in line.items() if key != "check"},
        lambda line: {key: value for key, value in line.items() if key != "machine"},
    ],
)
def test_record_that_was_edited_by_hand(
    edit: Callable[[dict[str, object]], dict[str, object]], filled: RecordStore, tmp_path: Path
) -> None:
    lines = lines_of(filled)
    number = next(n for n, line in enumerate(lines) if line["kind"] == "measurement")
    lines[number] = edit(lines[number])
    rewrite(filled, lines)
    path = filled.folder / MEASUREMENTS
    with pytest.raises(RecordError, match=f"{path}, line {number + 1}: .*changed since it was wri"):
        opened(tmp_path)


@pytest.mark.parametrize("field", ["stepping", "features", "threads"])
def test_machine_that_was_edited_by_hand(field: str, filled: RecordStore, tmp_path: Path) -> None:
    lines = lines_of(filled)
    machine = next(line for line in lines if line["kind"] == "machine")
    machine[field] = 4 if field == "threads" else "another"
    rewrite(filled, lines)
    with pytest.raises(RecordError, match=r"line 1: .*changed since it was written"):
        opened(tmp_path)


def test_unknown_kind_names_the_nearest(filled: RecordStore, tmp_path: Path) -> None:
    with (filled.folder / MEASUREMENTS).open("a") as file:
        file.write('{"kind": "measurment"}\n')
    with pytest.raises(RecordError, match="unknown kind 'measurment'; did you mean 'measurement'"):
        opened(tmp_path)


def test_records_of_another_target(filled: RecordStore, tmp_path: Path) -> None:
    foreign = RecordStore(tmp_path / "others", RASP4, "seconds")
    (foreign.folder / MEASUREMENTS).write_bytes((filled.folder / MEASUREMENTS).read_bytes())
    with pytest.raises(RecordError, match="another target than rasp4"):
        RecordStore(tmp_path / "others", RASP4, "seconds")


def test_units_and_targets_are_kept_apart(filled: RecordStore, tmp_path: Path) -> None:
    assert opened(tmp_path).best(TASK.workload) is not None
    assert opened(tmp_path, unit="instructions").best(TASK.workload) is None
    assert RecordStore(tmp_path, RASP4, "seconds").best(TASK.workload) is None


@pytest.mark.parametrize("at", ["", "seconds"])
def test_folder_that_cannot_be_made(at: str, tmp_path: Path) -> None:
    in_the_way = tmp_path / HOST.log_name / at
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("a file")
    with pytest.raises(RecordError, match=r"cannot make the log folder .*--logs FOLDER"):
        opened(tmp_path)
    assert in_the_way.read_text() == "a file"


def test_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    folder = tmp_path / HOST.log_name / "seconds" / MEASUREMENTS
    folder.mkdir(parents=True)
    with pytest.raises(RecordError, match=str(folder)):
        opened(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_full_disk(tmp_path: Path) -> None:
    store = opened(tmp_path)
    path = store.folder / MEASUREMENTS
    path.symlink_to("/dev/full")
    with pytest.raises(RecordError, match=f"cannot write {path}: No space left.*nothing.*lost"):
        store.add(FAILED)
    # With room again, the same is written.
    path.unlink()
    opened(tmp_path).add(FAILED)
    assert opened(tmp_path).find(TASK.workload, FAILED.candidate) == FAILED


# What a value holds for.


def test_same_name_other_stepping_is_a_prior(filled: RecordStore, tmp_path: Path) -> None:
    store = opened(tmp_path, replace(HERE, stepping="4"))
    best = store.best(TASK.workload)
    assert best is not None and best.candidate == PLAN[1]
    assert store.is_prior(best)
    assert best in store.usable(TASK.workload)
    assert store.find(TASK.workload, PLAN[1]) is None
    assert store.explored(TASK.workload, PLAN) == set()
    assert store.known(TASK.workload, PLAN) == {PLAN[0], PLAN[1], PLAN[7]}
    # What is measured here decides, however much slower it is.
    own = measured(TASK, PLAN[0], 9.0, machine=replace(HERE, stepping="4"))
    store.add(own)
    assert store.best(TASK.workload) == own
    assert not store.is_prior(own)


def test_values_of_another_version_of_tvm_are_priors(
    filled: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tvm, "__version__", "0.28.0")
    store = opened(tmp_path)
    best = store.best(TASK.workload)
    assert best is not None and store.is_prior(best)


def test_values_of_another_list_of_passes_are_priors(
    filled: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = [*pipeline.lower_tir_cpu(), tvm.tirx.transform.StmtSimplify()]
    monkeypatch.setattr(pipeline, "lower_tir_cpu", lambda: passes)
    generation.generation_of.__globals__["_passes"].cache_clear()
    try:
        store = opened(tmp_path)
        best = store.best(TASK.workload)
        assert best is not None and store.is_prior(best)
    finally:
        generation.generation_of.__globals__["_passes"].cache_clear()


def test_values_of_another_version_of_the_rule_are_priors(
    filled: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = next(each for each in schedules.registry.RULES if each.name == PLAN[1].rule)
    monkeypatch.setattr(type(rule), "version", 2, raising=False)
    assert opened(tmp_path).find(TASK.workload, PLAN[1]) is None


def test_priors_are_better_than_a_kernel_without_a_schedule(
    filled: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.add(measured(TASK, UNSCHEDULED, 1.0))
    rule = next(each for each in schedules.registry.RULES if each.name == PLAN[1].rule)
    monkeypatch.setattr(type(rule), "version", 2, raising=False)
    store = opened(tmp_path)
    assert store.find(TASK.workload, UNSCHEDULED) is not None
    best = store.best(TASK.workload)
    assert best is not None and best.candidate == PLAN[1]
    assert store.is_prior(best)
    assert best in store.usable(TASK.workload)
    # Schedules that failed here are no reason to take one that worked elsewhere.
    store.add(measured(TASK, PLAN[2], failure="it crashed"))
    best = store.best(TASK.workload)
    assert best is not None and best.candidate == UNSCHEDULED
    assert store.usable(TASK.workload) == [best]


def test_records_of_a_rule_that_is_gone_are_priors(tmp_path: Path) -> None:
    gone = Candidate("gone", (("rows", 3),))
    store = add(opened(tmp_path), measured(TASK, gone, 1e-3), measured(TASK, PLAN[0], 2e-3))
    for each in (store, opened(tmp_path)):
        best = each.best(TASK.workload)
        assert best is not None and best.candidate == PLAN[0]


def test_priors_come_from_the_machine_that_is_most_like_this_one(tmp_path: Path) -> None:
    near, far = replace(HERE, stepping="4"), MachineIdentity("Linux aarch64", "Another")
    store = add(
        opened(tmp_path, None),
        *(measured(TASK, PLAN[n], 1e-6 * (9 - n), machine=far) for n in range(4)),
        measured(TASK, PLAN[5], 2.0, machine=near),
        measured(TASK, PLAN[6], 1.0, machine=near),
    )
    assert store.best(TASK.workload) is not None
    ranked = [each.candidate for each in opened(tmp_path).priors(TASK.workload)]
    assert ranked == [PLAN[6], PLAN[3], PLAN[5], PLAN[2], PLAN[1], PLAN[0]]


def test_instructions_are_the_same_on_every_machine(tmp_path: Path) -> None:
    board = MachineIdentity("qemu-user aarch64", "cortex-a72", threads=1)
    store = opened(tmp_path, board, "instructions")
    store.add(measured(TASK, PLAN[0], 5.0, machine=board, unit="instructions"))
    best = opened(tmp_path, board, "instructions").best(TASK.workload)
    assert best is not None and not opened(tmp_path, board, "instructions").is_prior(best)


def test_records_of_the_first_format_are_priors(tmp_path: Path) -> None:
    candidate = {"rule": PLAN[2].rule, **PLAN[2].as_dict()}
    common = {"target": HOST.log_name, "workload": TASK.workload, "unit": "seconds"}
    device = {"kind": "local", "where": "this machine (A, 2 threads)", "tvm": "0.27"}
    lines: list[dict[str, object]] = [
        {"source": "1", "device": device, "versions": {"tvm": "0.27.0.post1"}},
        {**common, "task": "t", "candidate": candidate, "values": [1e-3], "source": "1"},
        {**common, "pruned": ["12345678"]},
    ]
    store = opened(tmp_path)
    rewrite(store, lines)
    store = opened(tmp_path)
    best = store.best(TASK.workload)
    assert best is not None and store.is_prior(best)
    assert best.machine.name == "this machine (A, 2 threads)"
    # A session goes on behind them.
    own = measured(TASK, PLAN[3], 5.0)
    store.add(own)
    assert opened(tmp_path).best(TASK.workload) == own


@pytest.mark.parametrize(
    "line",
    [
        {"source": "1", "device": {}, "versions": {}, "more": 1},
        {"source": "1", "device": {}},
        {"source": 1, "device": {}, "versions": {}},
        {"target": HOST.log_name, "unit": "seconds", "workload": "1", "pruned": "abc"},
        {"target": HOST.log_name, "unit": "instructions", "workload": "1", "pruned": []},
        {"target": HOST.log_name, "unit": "seconds", "workload": "1", "source": "unknown"},
    ],
)
def test_line_of_the_first_format_that_cannot_be_meant(
    line: dict[str, object], tmp_path: Path
) -> None:
    store = opened(tmp_path)
    rewrite(store, [line])
    with pytest.raises(RecordError, match="line 1: not a measurement"):
        opened(tmp_path)


def test_what_was_measured_again_replaces_what_was_before(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for value in (1.0, 3.0):
        store.add(measured(TASK, PLAN[0], value))
    store.add(measured(TASK, PLAN[1], 2.0))
    for each in (store, opened(tmp_path)):
        best = each.best(TASK.workload)
        assert best is not None and best.candidate == PLAN[1]


def test_a_failure_is_never_best(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(FAILED)
    assert store.best(TASK.workload) is None
    added = measured(TASK, PLAN[2], 5.0)
    store.add(added)
    assert opened(tmp_path).best(TASK.workload) == added


def test_a_machine_is_described_once(filled: RecordStore) -> None:
    kinds = [line["kind"] for line in lines_of(filled)]
    assert kinds == ["machine", "generation", "measurement", "measurement", "measurement"]
    assert lines_of(filled)[0] == encode_definition(HERE)


def test_what_was_added_is_found(filled: RecordStore, tmp_path: Path) -> None:
    for store in (filled, opened(tmp_path)):
        assert_complete(store)
        assert store.find(TASK.workload, UNSCHEDULED) is None
        assert store.find("another workload", PLAN[7]) is None
        record = store.find(TASK.workload, PLAN[0])
        assert isinstance(record, Record) and record.machine == HERE

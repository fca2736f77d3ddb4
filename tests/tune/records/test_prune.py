"""Pruned records: what is dropped is not measured again, and machines are kept apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kernels import HOST, small_convolution

from tvm_eff import schedules, tune
from tvm_eff.device import Fingerprint, LocalDevice
from tvm_eff.errors import RecordError
from tvm_eff.schedules import UNSCHEDULED, Candidate
from tvm_eff.tune import Record, RecordStore, TuneOptions
from tvm_eff.tune.options import Silent
from tvm_eff.tune.records.prune import prune, survey
from tvm_eff.tune.records.store import MEASUREMENTS, RECORDS, WORKLOADS
from tvm_eff.tune.task_scheduler import FIRST

HERE = Fingerprint("local", "this machine (A, 2 threads)", "A", "Linux", "0.27")
ELSEWHERE = replace(HERE, where="this machine (B, 8 threads)", cpu="B")
TASK = small_convolution()
PLAN = [UNSCHEDULED, *schedules.candidates(TASK.func, HOST)[:6]]


def measured(
    candidate: Candidate, value: float, device: Fingerprint = HERE, failure: str | None = None
) -> Record:
    return Record(
        workload=TASK.workload,
        task=TASK.name,
        candidate=candidate,
        unit="seconds",
        values=() if failure else (value,),
        failure=failure,
        error=None if failure else 1e-7,
        device=device.as_dict(),
        versions={"tvm": "0.27"},
    )


def opened(folder: Path, device: Fingerprint = HERE) -> RecordStore:
    store = RecordStore(folder, HOST, "seconds")
    store.measured_on(device)
    return store


def fill(folder: Path, device: Fingerprint = HERE, scale: float = 1.0) -> RecordStore:
    """Measure the whole plan: the later the faster, but for the last, which fails."""
    store = opened(folder, device)
    for number, candidate in enumerate(PLAN):
        failure = "it crashed" if number == len(PLAN) - 1 else None
        store.add(measured(candidate, scale * (10 - number), device, failure))
    return store


def measurements(folder: Path) -> Path:
    return folder / HOST.log_name / "seconds" / MEASUREMENTS


def test_nothing_to_prune(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=f"{tmp_path}/rasp4 holds no records.*--logs FOLDER"):
        prune(tmp_path, "rasp4", tmp_path, 3)
    with pytest.raises(RecordError, match=f"{tmp_path} holds no records"):
        survey(tmp_path)


def test_output_that_cannot_be_made(tmp_path: Path) -> None:
    fill(tmp_path / "logs")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecordError, match=r"cannot write the records to .*--output FOLDER"):
        prune(tmp_path / "logs", HOST.log_name, tmp_path / "file", 3)


@pytest.mark.parametrize(
    "line",
    [
        {"source": "1", "device": {}, "versions": {}, "more": 1},
        {"source": "1", "device": {}},
        {"source": 1, "device": {}, "versions": {}},
        {"target": HOST.log_name, "unit": "seconds", "workload": "1", "pruned": "abc"},
        {"target": HOST.log_name, "unit": "seconds", "workload": "1", "pruned": [1]},
        {"target": HOST.log_name, "unit": "instructions", "workload": "1", "pruned": []},
        {"target": HOST.log_name, "unit": "seconds", "workload": "1", "source": "unknown"},
    ],
)
def test_line_that_cannot_be_meant(line: dict[str, object], tmp_path: Path) -> None:
    path = measurements(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(RecordError, match=f"{path}, line 1: not a measurement"):
        opened(tmp_path)


def test_best_few_stay_and_the_rest_is_known(tmp_path: Path) -> None:
    logs, output = tmp_path / "logs", tmp_path / "shipped"
    full = fill(logs)
    (summary,) = prune(logs, HOST.log_name, output, 2)
    assert (summary.workloads, summary.candidates, summary.pruned) == (1, 3, len(PLAN) - 3)
    assert summary.size == measurements(output).stat().st_size
    assert survey(output) == [summary]

    shipped = opened(output)
    assert [shipped.find(TASK.workload, c) is not None for c in PLAN] == [
        c in (PLAN[0], PLAN[-3], PLAN[-2]) for c in PLAN
    ]
    for candidate in (PLAN[0], PLAN[-2]):
        known = full.find(TASK.workload, candidate)
        assert shipped.find(TASK.workload, candidate) == known
    assert shipped.best(TASK.workload) == full.best(TASK.workload)
    # Neither what was slower nor what failed is measured again; what is new is.
    new = Candidate.of("register_tile", {"rows": 99})
    assert shipped.missing(TASK.workload, PLAN) == []
    assert shipped.missing(TASK.workload, [*PLAN, new]) == [new]
    assert shipped.missing("another workload", PLAN) == PLAN


def test_pruning_again_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    prune(tmp_path, HOST.log_name, tmp_path, 2)
    once = measurements(tmp_path).read_bytes()
    prune(tmp_path, HOST.log_name, tmp_path, 2)
    assert measurements(tmp_path).read_bytes() == once
    # A session goes on where the file ends.
    opened(tmp_path).add(measured(PLAN[1], 0.5))
    best = opened(tmp_path).best(TASK.workload)
    assert best is not None and best.candidate == PLAN[1]


def test_merging_keeps_the_better_value(tmp_path: Path) -> None:
    logs, output = tmp_path / "logs", tmp_path / "shipped"
    for folder, values in ((logs, (5.0, 2.0)), (output, (4.0, 3.0))):
        store = opened(folder)
        store.add(measured(UNSCHEDULED, 9.0))
        for candidate, value in zip(PLAN[1:], values, strict=False):
            store.add(measured(candidate, value))
    prune(logs, HOST.log_name, output, 3)
    merged = opened(output)
    found = [merged.find(TASK.workload, candidate) for candidate in PLAN[1:3]]
    assert [each.value for each in found if each is not None] == [4.0, 2.0]


def test_files_of_winners_are_written_again_when_needed(tmp_path: Path) -> None:
    store = fill(tmp_path)
    best = store.best(TASK.workload)
    assert best is not None
    store.commit(TASK, best, schedules.apply(TASK.func, best.candidate, HOST))
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    assert [path.name for path in measurements(tmp_path).parent.iterdir()] == [MEASUREMENTS]
    store = opened(tmp_path)
    assert store.committed(TASK) == float("inf")
    store.commit(TASK, best, schedules.apply(TASK.func, best.candidate, HOST))
    assert opened(tmp_path).committed(TASK) == best.value
    assert {path.name for path in store.folder.iterdir()} == {MEASUREMENTS, WORKLOADS, RECORDS}


class Heard(Silent):
    """How many candidates a session has to measure."""

    to_measure = -1

    def started(self, total: int, to_measure: int) -> None:
        self.to_measure = to_measure


def test_session_with_pruned_records_measures_nothing(tmp_path: Path) -> None:
    options = TuneOptions(trials=4, workers=1)
    with LocalDevice(threads=1) as device:
        store = RecordStore(tmp_path, HOST, "seconds")
        (first,) = tune.tune([TASK], HOST, device, store, options)
        path = measurements(tmp_path)
        prune(tmp_path, HOST.log_name, tmp_path, 1)
        before = path.read_bytes()
        store = RecordStore(tmp_path, HOST, "seconds")
        (second,) = tune.tune([TASK], HOST, device, store, options)
        assert path.read_bytes() == before
        assert (second.before, second.best) == (first.before, first.best)
        # The winner is in MetaSchedule's format again.
        assert store.committed(TASK) == first.best.value
        assert len(store.database) == 1
        # More trials measure what is new, and nothing else.
        heard = Heard()
        tune.tune([TASK], HOST, device, store, TuneOptions(trials=6, workers=1), heard)
        assert heard.to_measure == 2


def test_another_machine_counts_only_where_this_one_has_nothing(tmp_path: Path) -> None:
    fill(tmp_path, ELSEWHERE, scale=0.1)
    store = opened(tmp_path, HERE)
    best = store.best(TASK.workload)
    assert best is not None and best.machine == ("local", ELSEWHERE.where)
    assert store.missing(TASK.workload, PLAN) == []
    store.commit(TASK, best, schedules.apply(TASK.func, best.candidate, HOST))

    # From the first measurement of its own on, all is compared on this machine.
    own = measured(PLAN[1], 7.0)
    store.add(own)
    for each in (store, opened(tmp_path, HERE)):
        assert each.best(TASK.workload) == own
        assert each.missing(TASK.workload, PLAN) == [PLAN[0], *PLAN[2:]]
        assert each.committed(TASK) == float("inf")
        assert len(each.database) == 0
    assert opened(tmp_path, ELSEWHERE).best(TASK.workload) == best


def test_something_new_is_compared_with_what_another_machine_found(tmp_path: Path) -> None:
    fill(tmp_path, ELSEWHERE)
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    new = Candidate.of("register_tile", {"rows": 99})
    missing = opened(tmp_path, HERE).missing(TASK.workload, [*PLAN, new])
    assert missing == [PLAN[0], PLAN[-2], new]


def test_a_winner_of_elsewhere_that_is_no_candidate_here_decides_nothing(tmp_path: Path) -> None:
    # As on a machine with another number of cores.
    fill(tmp_path, ELSEWHERE)
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    store, plan = opened(tmp_path, HERE), [PLAN[0], *PLAN[1:-2], PLAN[-1]]
    assert store.missing(TASK.workload, plan, len(plan)) == plan

    for candidate in plan:
        store.add(measured(candidate, 7.0))
    assert store.missing(TASK.workload, plan, len(plan)) == []
    assert opened(tmp_path, ELSEWHERE).missing(TASK.workload, PLAN) == []


def test_as_many_as_are_enough_count_wherever_they_were_measured(tmp_path: Path) -> None:
    fill(tmp_path, ELSEWHERE)
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    new = [Candidate.of("register_tile", {"rows": rows}) for rows in (97, 98, 99)]
    store, plan = opened(tmp_path, HERE), [PLAN[0], *new, *PLAN[1:]]
    assert store.missing(TASK.workload, plan, len(PLAN)) == []
    # One more is asked for, and is compared with what was kept elsewhere.
    assert store.missing(TASK.workload, plan, len(PLAN) + 1) == [PLAN[0], *new, PLAN[-2]]


def test_new_first_candidates_are_measured_however_much_is_on_record(tmp_path: Path) -> None:
    # As after a space has got a rule whose candidates are now tried first.
    candidates = schedules.candidates(TASK.func, HOST)
    new, old = candidates[: FIRST - 1], candidates[FIRST - 1 :]
    with LocalDevice(threads=1) as device:
        here, elsewhere = opened(tmp_path, device.fingerprint), opened(tmp_path, ELSEWHERE)
        for number in range(9):
            here.add(measured(old[number], 10.0 + number, device.fingerprint))
            elsewhere.add(measured(old[-1 - number], 10.0 + number, ELSEWHERE))
        here.add(measured(UNSCHEDULED, 20.0, device.fingerprint))
        prune(tmp_path, HOST.log_name, tmp_path, 2)
        store, heard = opened(tmp_path, device.fingerprint), Heard()
        tune.tune([TASK], HOST, device, store, TuneOptions(trials=9, workers=1), heard)
    assert all(store.find(TASK.workload, each) is not None for each in new)
    assert heard.to_measure == len(new)


def test_what_this_machine_has_pruned_and_another_one_keeps_is_not_measured_again(
    tmp_path: Path,
) -> None:
    here, elsewhere = opened(tmp_path, HERE), opened(tmp_path, ELSEWHERE)
    for number, candidate in enumerate(PLAN):
        here.add(measured(candidate, 10.0 - number))
        elsewhere.add(measured(candidate, 10.0 + number, ELSEWHERE))
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    for device in (HERE, ELSEWHERE):
        assert opened(tmp_path, device).missing(TASK.workload, PLAN) == []
    # Neither has pruned it for a third machine.
    third = replace(HERE, where="this machine (C, 4 threads)", cpu="C")
    new = Candidate.of("register_tile", {"rows": 99})
    assert opened(tmp_path, third).missing(TASK.workload, [*PLAN, new]) == [
        PLAN[0],
        PLAN[1],
        PLAN[-1],
        new,
    ]


def test_pruning_keeps_machines_apart(tmp_path: Path) -> None:
    fill(tmp_path, HERE)
    fill(tmp_path, ELSEWHERE, scale=0.1)
    (summary,) = prune(tmp_path, HOST.log_name, tmp_path, 1)
    assert (summary.candidates, len(summary.devices)) == (4, 2)
    for device, value in ((HERE, 5.0), (ELSEWHERE, 0.5)):
        best = opened(tmp_path, device).best(TASK.workload)
        assert best is not None and best.value == value


def test_instructions_are_the_same_on_every_machine(tmp_path: Path) -> None:
    emulated = Fingerprint("emulated", "emulated c (qemu 7.2)", "c", "Linux, qemu 7.2", "0.27")
    other = replace(emulated, where="emulated c (qemu 8.0)", system="Linux, qemu 8.0")
    store = RecordStore(tmp_path, HOST, "instructions")
    store.measured_on(other)
    for number, device in enumerate((emulated, other)):
        record = measured(PLAN[number], 5.0 - number, device)
        store.add(replace(record, unit="instructions"))
    best = store.best(TASK.workload)
    assert best is not None and best.candidate == PLAN[1]
    assert store.missing(TASK.workload, PLAN[:2]) == []


def test_what_was_measured_again_counts_also_where_it_is_slower(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for candidate, values in ((PLAN[0], (9.0,)), (PLAN[1], (1.0, 3.0)), (PLAN[2], (2.0,))):
        for value in values:
            store.add(measured(candidate, value))
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    best = opened(tmp_path).best(TASK.workload)
    assert best is not None and (best.candidate, best.value) == (PLAN[2], 2.0)

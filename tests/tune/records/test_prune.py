"""Pruned records: what is dropped is not measured again, and machines are kept apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kernels import HOST, small_convolution
from records import HERE, measured, opened

from tvm_eff import schedules, tune
from tvm_eff.device import LocalDevice, MachineIdentity
from tvm_eff.errors import RecordError
from tvm_eff.schedules import UNSCHEDULED, Candidate
from tvm_eff.tune import Record, RecordStore, TuneOptions
from tvm_eff.tune.options import Silent
from tvm_eff.tune.records.database import WINNERS, Winner
from tvm_eff.tune.records.prune import prune, survey
from tvm_eff.tune.records.store import MEASUREMENTS, RECORDS, WORKLOADS
from tvm_eff.tune.session import RECHECKED
from tvm_eff.tune.task_scheduler import INITIAL_TRIALS

ELSEWHERE = replace(HERE, name="B", stepping="8", threads=8)
TASK = small_convolution()
PLAN = [UNSCHEDULED, *schedules.candidates(TASK.func, HOST)[:6]]
NEW = Candidate.of("register_tile", {"rows": 99})


def record(
    candidate: Candidate,
    value: float,
    machine: MachineIdentity = HERE,
    failure: str | None = None,
) -> Record:
    return measured(TASK, candidate, value, machine=machine, failure=failure)


def fill(folder: Path, machine: MachineIdentity = HERE, scale: float = 1.0) -> RecordStore:
    """Measure the whole plan: the later the faster, but for the last, which fails."""
    store = opened(folder, machine)
    for number, candidate in enumerate(PLAN):
        failure = "it crashed" if number == len(PLAN) - 1 else None
        store.add(record(candidate, scale * (10 - number), machine, failure))
    return store


def measurements(folder: Path) -> Path:
    return folder / HOST.log_name / "seconds" / MEASUREMENTS


def left(store: RecordStore, plan: list[Candidate] = PLAN) -> list[Candidate]:
    """What this machine has not explored."""
    explored = store.explored(TASK.workload, plan)
    return [each for each in plan if each not in explored]


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
        assert shipped.find(TASK.workload, candidate) == full.find(TASK.workload, candidate)
    assert shipped.best(TASK.workload) == full.best(TASK.workload)
    # Neither what was slower nor what failed is measured again; what is new is.
    assert left(shipped) == []
    assert left(shipped, [*PLAN, NEW]) == [NEW]
    assert shipped.explored("another workload", PLAN) == set()


def test_pruning_again_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    prune(tmp_path, HOST.log_name, tmp_path, 2)
    once = measurements(tmp_path).read_bytes()
    prune(tmp_path, HOST.log_name, tmp_path, 2)
    assert measurements(tmp_path).read_bytes() == once
    # A session goes on where the file ends.
    opened(tmp_path).add(record(PLAN[1], 0.5))
    best = opened(tmp_path).best(TASK.workload)
    assert best is not None and best.candidate == PLAN[1]


def test_merging_keeps_the_better_value(tmp_path: Path) -> None:
    logs, output = tmp_path / "logs", tmp_path / "shipped"
    for folder, values in ((logs, (5.0, 2.0)), (output, (4.0, 3.0))):
        store = opened(folder)
        store.add(record(UNSCHEDULED, 9.0))
        for candidate, value in zip(PLAN[1:], values, strict=False):
            store.add(record(candidate, value))
    prune(logs, HOST.log_name, output, 3)
    merged = opened(output)
    found = [merged.find(TASK.workload, candidate) for candidate in PLAN[1:3]]
    assert [each.value for each in found if each is not None] == [4.0, 2.0]


def test_files_of_winners_are_written_again_when_needed(tmp_path: Path) -> None:
    store = fill(tmp_path)
    best = store.best(TASK.workload)
    assert best is not None
    winner = Winner(TASK, best.candidate, best.value)
    store.write_winners([winner])
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    folder = measurements(tmp_path).parent
    assert {path.name for path in folder.iterdir()} - {".lock"} == {MEASUREMENTS}
    opened(tmp_path).write_winners([winner])
    there = {path.name for path in folder.iterdir()} - {".lock"}
    assert there == {MEASUREMENTS, WORKLOADS, RECORDS, WINNERS}


class Heard(Silent):
    """How many candidates a session has to measure."""

    to_measure = rechecked = -1

    def started(self, total: int, to_measure: int, rechecked: int) -> None:
        self.to_measure, self.rechecked = to_measure, rechecked


def tuned(
    folder: Path, device: LocalDevice, trials: int, heard: Heard | None = None
) -> tune.TaskResult:
    store = RecordStore(folder, HOST, "seconds", device.identity)
    options = TuneOptions(trials=trials, workers=1)
    (result,) = tune.tune([TASK], HOST, device, store, options, heard)
    return result


def test_session_with_pruned_records_measures_nothing(tmp_path: Path) -> None:
    with LocalDevice(threads=1) as device:
        first = tuned(tmp_path, device, 4)
        path = measurements(tmp_path)
        prune(tmp_path, HOST.log_name, tmp_path, 1)
        before = path.read_bytes()
        second = tuned(tmp_path, device, 4)
        assert path.read_bytes() == before
        assert (second.before, second.best) == (first.before, first.best)
        # More trials measure what is new, and nothing else.
        heard = Heard()
        tuned(tmp_path, device, 6, heard)
        assert (heard.to_measure, heard.rechecked) == (2, 0)


def test_where_another_machine_was_tuned_its_best_few_are_measured_here(tmp_path: Path) -> None:
    fill(tmp_path, ELSEWHERE, scale=0.1)
    with LocalDevice(threads=1) as device:
        heard = Heard()
        result = tuned(tmp_path, device, len(PLAN) - 1, heard)
        assert (heard.to_measure, heard.rechecked) == (RECHECKED, RECHECKED)
        assert not result.is_prior
        # The last of the plan failed there; what was slow there is not tried.
        assert result.candidate in PLAN[-1 - RECHECKED : -1]
        assert result.before is not None and result.before.machine == ELSEWHERE
        # What was measured here is not measured again.
        tuned(tmp_path, device, len(PLAN) - 1, heard)
        assert heard.to_measure == 0


def test_without_measuring_priors_decide(tmp_path: Path) -> None:
    fill(tmp_path, ELSEWHERE, scale=0.1)
    before = measurements(tmp_path).read_bytes()
    # Never opened: nothing may be asked of it.
    device = LocalDevice(threads=1)
    store = RecordStore(tmp_path, HOST, "seconds", device.identity)
    options = TuneOptions(trials=4, measure=False)
    (result,) = tune.tune([TASK], HOST, device, store, options)
    assert (result.candidate, result.is_prior, result.measured) == (PLAN[-2], True, 0)
    assert measurements(tmp_path).read_bytes() == before


def test_without_measuring_and_records_the_first_candidate_is_taken(tmp_path: Path) -> None:
    device = LocalDevice(threads=1)
    store = RecordStore(tmp_path, HOST, "seconds", device.identity)
    (result,) = tune.tune([TASK], HOST, device, store, TuneOptions(measure=False))
    assert (result.candidate, result.best) == (PLAN[1], None)


def test_a_winner_of_elsewhere_that_is_no_candidate_here_is_no_prior(tmp_path: Path) -> None:
    # As on a machine with another number of cores.
    store = opened(tmp_path, ELSEWHERE)
    for number in range(9):
        other = Candidate.of("register_tile", {"rows": 90 + number})
        store.add(record(other, 1.0 + number, ELSEWHERE))
    with LocalDevice(threads=1) as device:
        heard = Heard()
        tuned(tmp_path, device, 4, heard)
    assert (heard.to_measure, heard.rechecked) == (5, 0)


def test_what_is_known_elsewhere_is_tried_first_where_more_is_asked_for(tmp_path: Path) -> None:
    store = opened(tmp_path, ELSEWHERE)
    late = schedules.candidates(TASK.func, HOST)[-1]
    store.add(record(late, 1.0, ELSEWHERE))
    with LocalDevice(threads=1) as device:
        heard = Heard()
        tuned(tmp_path, device, 6, heard)
        assert (heard.to_measure, heard.rechecked) == (7, 0)
        own = RecordStore(tmp_path, HOST, "seconds", device.identity)
        assert own.find(TASK.workload, late) is not None


def test_new_first_candidates_are_measured_however_much_is_on_record(tmp_path: Path) -> None:
    # As after a space has got a rule whose candidates are now tried first.
    candidates = schedules.candidates(TASK.func, HOST)
    new, old = candidates[: INITIAL_TRIALS - 1], candidates[INITIAL_TRIALS - 1 :]
    with LocalDevice(threads=1) as device:
        here, elsewhere = opened(tmp_path, device.identity), opened(tmp_path, ELSEWHERE)
        for number in range(9):
            here.add(record(old[number], 10.0 + number, device.identity))
            elsewhere.add(record(old[-1 - number], 10.0 + number, ELSEWHERE))
        here.add(record(UNSCHEDULED, 20.0, device.identity))
        prune(tmp_path, HOST.log_name, tmp_path, 2)
        heard = Heard()
        tuned(tmp_path, device, 9, heard)
        store = opened(tmp_path, device.identity)
    assert all(store.find(TASK.workload, each) is not None for each in new)


def test_pruned_candidates_are_those_of_the_machine_that_pruned_them(tmp_path: Path) -> None:
    here, elsewhere = opened(tmp_path, HERE), opened(tmp_path, ELSEWHERE)
    for number, candidate in enumerate(PLAN):
        here.add(record(candidate, 10.0 - number))
        elsewhere.add(record(candidate, 10.0 + number, ELSEWHERE))
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    for machine in (HERE, ELSEWHERE):
        assert left(opened(tmp_path, machine)) == []
    # A third machine has explored nothing, and knows of all.
    third = opened(tmp_path, replace(HERE, name="C", threads=4))
    assert left(third, [*PLAN, NEW]) == [*PLAN, NEW]
    assert third.known(TASK.workload, [*PLAN, NEW]) == set(PLAN)


def test_pruning_beside_a_session_loses_nothing(tmp_path: Path) -> None:
    session = opened(tmp_path)
    for number, candidate in enumerate(PLAN[:3]):
        session.add(record(candidate, 10.0 - number))
        # What is left of the file says nothing of other machines, or of other rules' code.
        fill(tmp_path / "others", ELSEWHERE)
        prune(tmp_path / "others", HOST.log_name, tmp_path, 1)
    session.add(record(PLAN[3], 5.0, failure="it crashed"))
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    added = record(PLAN[4], 1.0)
    session.add(added)
    again = opened(tmp_path)
    assert again.best(TASK.workload) == added
    assert left(again, PLAN[:5]) == []


def test_pruning_removes_the_code_that_no_record_is_of(tmp_path: Path) -> None:
    session = opened(tmp_path)
    session.add(record(PLAN[1], 5.0, failure="it crashed"))
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    assert '"generation"' not in measurements(tmp_path).read_text()
    added = record(PLAN[2], 1.0)
    session.add(added)
    assert opened(tmp_path).best(TASK.workload) == added


def test_pruning_keeps_machines_apart(tmp_path: Path) -> None:
    fill(tmp_path, HERE)
    fill(tmp_path, ELSEWHERE, scale=0.1)
    (summary,) = prune(tmp_path, HOST.log_name, tmp_path, 1)
    assert (summary.candidates, len(summary.machines)) == (4, 2)
    for machine, value in ((HERE, 5.0), (ELSEWHERE, 0.5)):
        best = opened(tmp_path, machine).best(TASK.workload)
        assert best is not None and best.value == value


def test_what_was_measured_again_counts_also_where_it_is_slower(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for candidate, values in ((PLAN[0], (9.0,)), (PLAN[1], (1.0, 3.0)), (PLAN[2], (2.0,))):
        for value in values:
            store.add(record(candidate, value))
    prune(tmp_path, HOST.log_name, tmp_path, 1)
    best = opened(tmp_path).best(TASK.workload)
    assert best is not None and (best.candidate, best.value) == (PLAN[2], 2.0)

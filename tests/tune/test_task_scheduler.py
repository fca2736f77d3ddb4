"""Which candidates come next: all kernels' first ones, then where most may be won."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kernels import small_convolution

from tvm_eff.schedules import Candidate
from tvm_eff.tune import Task
from tvm_eff.tune.task_scheduler import INITIAL_TRIALS, TRIALS_PER_ROUND, PendingTask, TaskScheduler


def tasks() -> list[Task]:
    func = small_convolution().func
    return [Task("often", func, calls=10), Task("slow", func), Task("perfect", func)]


def candidates(count: int) -> list[Candidate]:
    return [Candidate.of("rule", {"number": number}) for number in range(count)]


def test_every_kernel_first_then_where_most_may_be_won() -> None:
    best = {"often": 2.0, "slow": 5.0, "perfect": 100.0}
    bound = {"often": 1.0, "slow": 1.0, "perfect": 100.0}
    scheduler = TaskScheduler(
        [
            PendingTask(
                task,
                candidates(INITIAL_TRIALS + 2 * TRIALS_PER_ROUND),
                INITIAL_TRIALS + 2 * TRIALS_PER_ROUND,
            )
            for task in tasks()
        ],
        best=lambda task: best[task.name],
        bound=lambda task: bound[task.name],
    )
    first = [scheduler.next_batch() for _ in range(3)]
    assert [share and share.task.name for share in first] == ["often", "slow", "perfect"]
    assert scheduler.warmed_up
    following = scheduler.next_batch()
    # Ten calls that may each give 1, against one that may give 4, and one that cannot be better.
    assert following is not None
    assert following.task.name == "often"
    assert following.candidates == tuple(
        candidates(INITIAL_TRIALS + TRIALS_PER_ROUND)[INITIAL_TRIALS:]
    )
    best["often"] = 1.1
    assert [share.task.name for share in iter(scheduler.next_batch, None) if share] == [
        *("slow", "slow", "often", "perfect", "perfect")
    ]


def test_nothing_is_dealt_out_twice_or_forgotten() -> None:
    one, two, three = tasks()
    work = [(one, candidates(11)), (two, []), (three, candidates(3))]
    missing = [PendingTask(task, all_of, len(all_of)) for task, all_of in work]
    scheduler = TaskScheduler(missing, best=lambda task: float("inf"), bound=lambda task: 0.0)
    dealt = Counter(
        (share.task.name, candidate)
        for share in iter(scheduler.next_batch, None)
        if share
        for candidate in share.candidates
    )
    assert dealt == Counter((task.name, each) for task, all_of in work for each in all_of)


def test_kernel_near_its_bound_gets_its_first_candidates_alone() -> None:
    bound = {"often": 0.96, "slow": 0.5, "perfect": 0.0}
    best = {"often": 1.0, "slow": 1.0, "perfect": 1.0}
    scheduler = TaskScheduler(
        [
            PendingTask(
                task,
                candidates(INITIAL_TRIALS + 2 * TRIALS_PER_ROUND),
                INITIAL_TRIALS + 2 * TRIALS_PER_ROUND,
            )
            for task in tasks()
        ],
        best=lambda task: best[task.name],
        bound=lambda task: bound[task.name],
        until_roofline=0.95,
    )
    assert [share.task.name for share in [scheduler.next_batch() for _ in range(4)] if share] == [
        *("often", "slow", "perfect"),
        "perfect",
    ]
    # It has come near meanwhile.
    best["slow"] = 0.52
    assert [share.task.name for share in iter(scheduler.next_batch, None) if share] == ["perfect"]


def test_trials_go_to_what_is_ranked_first_after_the_first_candidates() -> None:
    task, all_of = tasks()[0], candidates(20)
    asked: list[int] = []

    def backwards(_: Task, left: Sequence[Candidate]) -> list[Candidate]:
        asked.append(len(left))
        return sorted(left, key=lambda each: -each["number"])

    scheduler = TaskScheduler(
        [PendingTask(task, all_of, INITIAL_TRIALS + TRIALS_PER_ROUND + 1)],
        best=lambda task: float("inf"),
        bound=lambda task: 0.0,
        rank=backwards,
    )
    shares = [share.candidates for share in iter(scheduler.next_batch, None) if share]
    assert shares == [
        tuple(all_of[:INITIAL_TRIALS]),
        tuple(all_of[: -TRIALS_PER_ROUND - 1 : -1]),
        (all_of[-TRIALS_PER_ROUND - 1],),
    ]
    assert asked == [20 - INITIAL_TRIALS, 20 - INITIAL_TRIALS - TRIALS_PER_ROUND]

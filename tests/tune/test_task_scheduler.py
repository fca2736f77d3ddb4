"""Which candidates come next: all kernels' first ones, then where most may be won."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kernels import small_convolution

from tvm_eff.schedules import Candidate
from tvm_eff.tune import Task
from tvm_eff.tune.task_scheduler import FIRST, MORE, Allocation, Missing


def tasks() -> list[Task]:
    func = small_convolution().func
    return [Task("often", func, calls=10), Task("slow", func), Task("perfect", func)]


def candidates(count: int) -> list[Candidate]:
    return [Candidate.of("rule", {"number": number}) for number in range(count)]


def test_every_kernel_first_then_where_most_may_be_won() -> None:
    best = {"often": 2.0, "slow": 5.0, "perfect": 100.0}
    floor = {"often": 1.0, "slow": 1.0, "perfect": 100.0}
    allocation = Allocation(
        [Missing(task, candidates(FIRST + 2 * MORE), FIRST + 2 * MORE) for task in tasks()],
        best=lambda task: best[task.name],
        floor=lambda task: floor[task.name],
    )
    first = [allocation.next() for _ in range(3)]
    assert [share and share.task.name for share in first] == ["often", "slow", "perfect"]
    assert allocation.complete
    following = allocation.next()
    # Ten calls that may each give 1, against one that may give 4, and one that cannot be better.
    assert following is not None
    assert following.task.name == "often"
    assert following.candidates == tuple(candidates(FIRST + MORE)[FIRST:])
    best["often"] = 1.1
    assert [share.task.name for share in iter(allocation.next, None) if share] == [
        *("slow", "slow", "often", "perfect", "perfect")
    ]


def test_nothing_is_dealt_out_twice_or_forgotten() -> None:
    one, two, three = tasks()
    work = [(one, candidates(11)), (two, []), (three, candidates(3))]
    missing = [Missing(task, all_of, len(all_of)) for task, all_of in work]
    allocation = Allocation(missing, best=lambda task: float("inf"), floor=lambda task: 0.0)
    dealt = Counter(
        (share.task.name, candidate)
        for share in iter(allocation.next, None)
        if share
        for candidate in share.candidates
    )
    assert dealt == Counter((task.name, each) for task, all_of in work for each in all_of)


def test_kernel_near_its_floor_gets_its_first_candidates_alone() -> None:
    floor = {"often": 0.96, "slow": 0.5, "perfect": 0.0}
    best = {"often": 1.0, "slow": 1.0, "perfect": 1.0}
    allocation = Allocation(
        [Missing(task, candidates(FIRST + 2 * MORE), FIRST + 2 * MORE) for task in tasks()],
        best=lambda task: best[task.name],
        floor=lambda task: floor[task.name],
        enough=0.95,
    )
    assert [share.task.name for share in [allocation.next() for _ in range(4)] if share] == [
        *("often", "slow", "perfect"),
        "perfect",
    ]
    # It has come near meanwhile.
    best["slow"] = 0.52
    assert [share.task.name for share in iter(allocation.next, None) if share] == ["perfect"]


def test_trials_go_to_what_is_ranked_first_after_the_first_candidates() -> None:
    task, all_of = tasks()[0], candidates(20)
    asked: list[int] = []

    def backwards(_: Task, left: Sequence[Candidate]) -> list[Candidate]:
        asked.append(len(left))
        return sorted(left, key=lambda each: -each["number"])

    allocation = Allocation(
        [Missing(task, all_of, FIRST + MORE + 1)],
        best=lambda task: float("inf"),
        floor=lambda task: 0.0,
        rank=backwards,
    )
    shares = [share.candidates for share in iter(allocation.next, None) if share]
    assert shares == [
        tuple(all_of[:FIRST]),
        tuple(all_of[: -MORE - 1 : -1]),
        (all_of[-MORE - 1],),
    ]
    assert asked == [20 - FIRST, 20 - FIRST - MORE]

"""What the cost model is worth: the best kernels found in so many trials, with it and without.

Replays sessions from records in which every candidate was measured, such as

    python scripts/tune.py --target rasp4 --model squeezenet1_1 --trials 400 --logs FOLDER
    python benchmarks/cost_model.py --target rasp4 --model squeezenet1_1 --logs FOLDER

The regret is what all calls of all kernels cost more than with the best candidate of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tvm_eff import frontend, models, passes, schedules, targets, tune
from tvm_eff.device import Device, select
from tvm_eff.progress import NoProgress
from tvm_eff.schedules import Candidate
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target
from tvm_eff.tune import RecordStore, Task
from tvm_eff.tune.cost_model import CostModel
from tvm_eff.tune.task_scheduler import PendingTask, TaskScheduler

TRIALS = (4, 8, 12, 16, 24)

Plan = dict[str, list[Candidate]]


def main() -> None:
    """Print the regret of both orders."""
    arguments = _parser().parse_args()
    target = targets.load(arguments.target)
    device = select(target, None, "", NoProgress()).device
    known = RecordStore.of(arguments.logs, target, device)
    network = passes.lower(
        frontend.import_program(models.trace(models.load(arguments.model))), target
    )
    tasks = tune.extract(network.mod)
    plan = {
        task.name: [
            each
            for each in (schedules.UNSCHEDULED, *schedules.candidates(task.func, target))
            if known.find(task.workload, each) is not None
        ]
        for task in tasks
    }
    least = _cost(tasks, known)
    print(f"{sum(map(len, plan.values()))} candidates of {len(tasks)} kernels\n")
    print("| trials a kernel | in order | with the cost model |")
    print("|---|---|---|")
    for trials in TRIALS:
        regrets = [
            _cost(tasks, _session(tasks, plan, known, target, device, trials, modelled)) / least - 1
            for modelled in (False, True)
        ]
        print(f"| {trials} | " + " | ".join(f"{100 * each:.2f}%" for each in regrets) + " |")


def _session(
    tasks: Sequence[Task],
    plan: Plan,
    known: RecordStore,
    target: Target,
    device: Device,
    trials: int,
    modelled: bool,
) -> RecordStore:
    """Return the records of a session that measures what `known` holds."""
    with scratch_folder() as folder:
        records = RecordStore.of(folder, target, device)
        model = CostModel(tasks, plan, records)
        scheduler = TaskScheduler(
            [PendingTask(t, plan[t.name], min(len(plan[t.name]), 1 + trials)) for t in tasks],
            best=lambda task: _value(task, records),
            bound=lambda task: 0.0,
            rank=model.rank if modelled else lambda _, candidates: candidates,
        )
        while (batch := scheduler.next_batch()) is not None:
            for candidate in batch.candidates:
                record = known.find(batch.task.workload, candidate)
                assert record is not None, "the plan holds what is known alone"
                records.add(record)
        return records


def _cost(tasks: Sequence[Task], records: RecordStore) -> float:
    return sum(task.calls * _value(task, records) for task in tasks)


def _value(task: Task, records: RecordStore) -> float:
    best = records.best(task.workload)
    return float("inf") if best is None else best.value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--target", required=True, help="a target's name")
    parser.add_argument("--model", required=True, help="a model of the zoo")
    parser.add_argument(
        "--logs", type=Path, required=True, help="records with every candidate measured"
    )
    return parser


if __name__ == "__main__":
    main()

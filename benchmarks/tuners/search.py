"""One tuner on some kernels, in a process of its own.

``python -m tuners.search TUNER FOLDER BATCH`` prints a line of JSON when it starts to
search and one for each candidate, which the parent gives its time, and works until it
has nothing left to try or is ended.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tvm

from tvm_eff import targets
from tvm_eff.targets import Target
from tvm_eff.tune import Task

KERNELS, LOGS = "kernels.json", "logs"
READY = "ready"
BUILD_TIMEOUT_S = 180.0
"""MetaSchedule's own is 30 s, and every batch starts with fresh processes that import
``tvm.s_tir.tensor_intrin`` for about as long: on a machine that is a little slower, all of
its candidates fail."""

_UNLIMITED = 1_000_000

Say = Callable[[Any], None]


def write_kernels(tasks: Sequence[Task], folder: Path) -> None:
    """Write the kernels to tune to a folder."""
    kernels = [{"calls": task.calls, "module": tvm.ir.save_json(task.module)} for task in tasks]
    (folder / KERNELS).write_text(json.dumps(kernels))


def main() -> None:
    """Tune the kernels in the folder with the tuner that the command line names."""
    tuner, folder, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    # Tuners print where they like; only our answers go to the parent.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(line: Any) -> None:
        print(json.dumps(line), file=answers, flush=True)

    tasks = [
        Task(f"kernel_{i}", tvm.ir.load_json(each["module"])["main"], each["calls"])
        for i, each in enumerate(json.loads((folder / KERNELS).read_text()))
    ]
    target = targets.load("host")
    if tuner == "tvm_eff":
        _ours(tasks, target, folder / LOGS, say)
    else:
        _stock(tasks, target, folder / LOGS, batch, say)


def _ours(tasks: Sequence[Task], target: Target, logs: Path, say: Say) -> None:
    """Tune with tvm_eff: built, measured, checked and recorded, one by one."""
    from tvm_eff import tune
    from tvm_eff.device import LocalDevice

    places = {task.name: i for i, task in enumerate(tasks)}

    class Listener:
        def started(self, total: int, to_measure: int, rechecked: int) -> None:
            say(READY)

        def measured(self, task: Task, record: tune.Record, best: Any) -> None:
            failed = record.failure is not None
            say([places[task.name], None if failed else record.value, record.failure])

    with LocalDevice(threads=target.hardware.cores) as device:
        store = tune.RecordStore.of(logs, target, device)
        tune.tune(tasks, target, device, store, None, Listener())


def _stock(tasks: Sequence[Task], target: Target, logs: Path, batch: int, say: Say) -> None:
    """Tune as MetaSchedule's ``tune_relax`` does, from the extracted tasks on.

    Space, search, cost model, builder, runner and database are its own; candidates arrive
    in batches.
    """
    from tvm.ir.utils import derived_object
    from tvm.s_tir import meta_schedule as ms

    @derived_object
    class Listener(ms.measure_callback.PyMeasureCallback):
        def apply(
            self, scheduler: Any, task_id: int, candidates: Any, builds: Any, runs: Any
        ) -> None:
            for run in runs:
                if run.error_msg is not None:
                    say([int(task_id), None, _reason(str(run.error_msg))])
                    continue
                values = sorted(map(float, run.run_secs))
                say([int(task_id), values[len(values) // 2], None])

    logs.mkdir(parents=True)
    own = target.tvm_target()
    extracted = [
        ms.ExtractedTask(task.name, task.module, own, [task.module], task.calls) for task in tasks
    ]
    contexts, weights = ms.relax_integration.extracted_tasks_to_tune_contexts(extracted, str(logs))
    add_to_database, *others = ms.measure_callback.MeasureCallback.create("default")
    say(READY)
    ms.tune.tune_tasks(
        tasks=contexts,
        task_weights=weights,
        work_dir=str(logs),
        max_trials_global=_UNLIMITED,
        num_trials_per_iter=batch,
        builder=ms.builder.LocalBuilder(timeout_sec=BUILD_TIMEOUT_S),
        # Heard as soon as they are in the database, before the cost model is trained.
        measure_callbacks=[add_to_database, Listener(), *others],
    )


def _reason(text: str) -> str:
    """Return what a message of MetaSchedule says, without its traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    head = lines[0] if lines else "no reason given"
    return head if len(lines) < 2 else f"{head} {lines[-1]}"[:200]


if __name__ == "__main__":
    main()

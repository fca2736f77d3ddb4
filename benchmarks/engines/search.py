"""One tuner on one kernel, in a process of its own: ``python -m engines.search TUNER FOLDER``.

It prints ``ready`` when everything is imported, then a line of JSON for each
candidate, which the parent gives its time, and works until it is ended.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import tvm

from tvm_eff import targets

MODULE, LOGS = "module.json", "logs"
UNLIMITED = 1_000_000


def main() -> None:
    """Tune the kernel in the folder with the tuner that the command line names."""
    tuner, folder, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    # Tuners print where they like; only our answers go to the parent.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(line: Any) -> None:
        print(json.dumps(line), file=answers, flush=True)

    module = tvm.ir.load_json((folder / MODULE).read_text())
    (ours if tuner == "tvm_eff" else stock)(module, folder / LOGS, batch, say)


def ours(module: tvm.IRModule, logs: Path, batch: int, say: Any) -> None:
    """Tune with tvm_eff: built, measured, checked and recorded, one by one."""
    from tvm_eff import tune
    from tvm_eff.device import LocalDevice

    class Listener:
        def started(self, total: int, to_measure: int) -> None:
            say("ready")

        def measured(self, task: tune.Task, record: tune.Record, best: Any) -> None:
            say(None if record.failure is not None else record.value)

    target = targets.load("host")
    with LocalDevice(threads=target.hardware.cores) as device:
        store = tune.RecordStore(logs, target, device.unit)
        tune.tune([tune.Task("main", module["main"])], target, device, store, None, Listener())


def stock(module: tvm.IRModule, logs: Path, batch: int, say: Any) -> None:
    """Tune with MetaSchedule's own space, search, builder and runner; they deliver in batches."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir import meta_schedule as ms

    logging.disable(logging.CRITICAL)
    target = targets.load("host")

    @derived_object
    class Listener(ms.measure_callback.PyMeasureCallback):  # type: ignore[misc]
        def apply(
            self, scheduler: Any, task_id: int, candidates: Any, builds: Any, runs: Any
        ) -> None:
            for run in runs:
                values = [] if run.error_msg is not None else sorted(map(float, run.run_secs))
                say(values[len(values) // 2] if values else None)

    logs.mkdir(parents=True)
    say("ready")
    ms.tune_tir(
        module,
        target.tvm_target(),
        work_dir=str(logs),
        max_trials_global=UNLIMITED,
        num_trials_per_iter=batch,
        num_tuning_cores=target.hardware.cores,
        builder=ms.builder.LocalBuilder(max_workers=target.hardware.cores),
        runner=ms.runner.LocalRunner(),
        measure_callbacks=[ms.measure_callback.AddToDatabase(), Listener()],
    )


if __name__ == "__main__":
    main()

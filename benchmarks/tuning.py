"""Our tuner against stock MetaSchedule: the same kernels, machine and threads.

    pip install --no-deps --target benchmarks/.stock -r benchmarks/requirements-stock.txt
    python benchmarks/tuning.py --model squeezenet1_1 --tasks 4 --budget 60 --stock-budget 600

The kernels with the most work of each model are tuned together, first by one tuner and
then by the other, each with the whole machine, in a process of its own, from nothing,
its imports included. Candidates a second are end to end: built, loaded, measured, and
with ours checked. MetaSchedule has its own space, search, cost model, builder and
runner, as tune_relax puts them together; only its builder's timeout is longer than its
own, without which all its candidates may fail. At the end the winners of both are
checked, and measured in turns by the same measurer. Results go to tuning.json,
tuning.md and tuning.png in --output, in the place of those of an earlier run, after every
model; nothing else should run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# TVM would take half of them, and reads this once.
os.environ.setdefault("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))

import results_file
from results_file import Result
from tuners import report, winners
from tuners.process import search

from tvm_eff import frontend, models, passes, targets
from tvm_eff.cli.arguments import positive, seconds
from tvm_eff.cli.run import INTERRUPTED, run
from tvm_eff.device import LocalDevice
from tvm_eff.errors import UsageError
from tvm_eff.targets import Target
from tvm_eff.tune import Task, extract

BENCHMARKS = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> int:
    """Compare the two tuners."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    for model in arguments.model:
        models.spec(model)
    _require_cost_model(arguments.stock_packages)
    run_now = results_file.begin(__file__, argv)
    target = targets.load("host")
    budgets = {"tvm_eff": arguments.budget, "MetaSchedule": arguments.stock_budget}
    about = {"budgets_s": budgets, "stock_batch": arguments.stock_batch}
    rows: list[dict[str, Any]] = []
    try:
        for model in arguments.model:
            tasks = _tasks(model, target)[: arguments.tasks]
            rows.append(_compare(model, tasks, target, budgets, arguments))
            result = run_now.with_data({**about, "models": rows})
            _write(result, arguments.output)
    except KeyboardInterrupt:
        done = f"; {len(rows)} models are in {arguments.output}" if rows else ""
        print(f"interrupted{done}", file=sys.stderr)
        return INTERRUPTED
    print(report.markdown(result))
    print(f"written to {arguments.output / 'tuning.json'} and beside it")
    return 0


def _require_cost_model(packages: Path) -> None:
    """Find out before the first batch, after which MetaSchedule would stop without a word."""
    if importlib.util.find_spec("xgboost") or (packages / "xgboost").is_dir():
        return
    raise UsageError(
        f"MetaSchedule's cost model needs xgboost, which is neither here nor in {packages}; run: "
        f"{sys.executable} -m pip install --no-deps --target {packages} "
        "-r benchmarks/requirements-stock.txt"
    )


def _tasks(model: str, target: Target) -> list[Task]:
    program = models.trace(models.load(model))
    return extract(passes.lower(frontend.import_program(program), target).mod)


def _compare(
    model: str,
    tasks: list[Task],
    target: Target,
    budgets: dict[str, float],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    cores = target.hardware.cores
    with tempfile.TemporaryDirectory(prefix="tuning-") as name:
        folders = {tuner: Path(name) / tuner for tuner in budgets}
        found = {}
        for tuner, folder in folders.items():
            _say(f"{model}, {len(tasks)} kernels: {tuner}, {budgets[tuner]:g} s at most")
            found[tuner] = search(
                tuner,
                tasks,
                folder,
                budgets[tuner],
                batch=arguments.stock_batch,
                cores=cores,
                packages=arguments.stock_packages if tuner == "MetaSchedule" else None,
            )
        _say(f"{model}: the winners in turns")
        with LocalDevice(threads=cores) as device:
            best = [
                winners.compare(task, target, device, folders, arguments.rounds) for task in tasks
            ]
    kernels = [
        {"kernel": task.label, "calls": task.calls, "winners": each}
        for task, each in zip(tasks, best, strict=True)
    ]
    return {
        "model": model,
        "kernels": kernels,
        "tuners": {tuner: each.as_dict() for tuner, each in found.items()},
    }


def _write(result: Result, folder: Path) -> None:
    result.write(folder / "tuning.json")
    (folder / "tuning.md").write_text(report.markdown(result))
    report.plot(result, folder / "tuning.png")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=["squeezenet1_1"])
    parser.add_argument(
        "--tasks", type=positive, default=4, help="kernels of each model (default: %(default)s)"
    )
    parser.add_argument(
        "--budget",
        type=seconds,
        default=60.0,
        help="wall time of our tuner for a model, which may be done before (default: 60s)",
    )
    parser.add_argument(
        "--stock-budget",
        type=seconds,
        default=600.0,
        help="wall time of MetaSchedule for a model (default: 600s)",
    )
    parser.add_argument(
        "--stock-batch",
        type=positive,
        default=64,
        help="candidates MetaSchedule measures at a time (default: its own, %(default)s)",
    )
    parser.add_argument(
        "--stock-packages",
        type=Path,
        default=BENCHMARKS / ".stock",
        metavar="FOLDER",
        help="where MetaSchedule finds xgboost if it is not installed (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=positive, default=7, help="turns of the two winners")
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())

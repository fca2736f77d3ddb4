"""Our tuner against stock MetaSchedule: the same kernels, machine, threads and wall time.

    python benchmarks/tuning.py --model squeezenet1_1 mobilenet --tasks 4 --budget 120

For each kernel each tuner has the whole machine in turn for --budget seconds, in a
process of its own, its imports included. Candidates a second are end to end: built,
loaded, measured, and with ours checked. Then the winners of both are checked and
measured in turns by the same measurer. Results go to tuning.json, tuning.md and
tuning.png in --output, whole after every kernel; nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import tvm
from engines import winners
from engines.search import MODULE

from tvm_eff import frontend, models, targets
from tvm_eff.cli._arguments import positive, seconds
from tvm_eff.cli._run import INTERRUPTED, run
from tvm_eff.device import LocalDevice
from tvm_eff.device.local import processor
from tvm_eff.targets import Target
from tvm_eff.tune import Task, extract

BENCHMARKS = Path(__file__).resolve().parent
TUNERS = ("tvm_eff", "MetaSchedule")


def main(argv: list[str] | None = None) -> int:
    """Compare the two tuners."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    for model in arguments.model:
        models.spec(model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    target = targets.load("host")
    result: dict[str, Any] = {
        "machine": processor(),
        "cores": target.hardware.cores,
        "date": date.today().isoformat(),
        "budget_s": arguments.budget,
        "stock_batch": arguments.stock_batch,
        "tasks": [],
    }
    try:
        for model, task in _tasks(arguments, target):
            print(f"{model}: {task.label}", file=sys.stderr, flush=True)
            row = _compare(task, target, arguments)
            result["tasks"].append({"model": model, "task": task.label, "calls": task.calls, **row})
            _write(result, arguments.output)
    except KeyboardInterrupt:
        done = len(result["tasks"])
        print(f"interrupted; {done} kernels are in {arguments.output}", file=sys.stderr)
        return INTERRUPTED
    print(_markdown(result))
    return 0


def _tasks(arguments: argparse.Namespace, target: Target) -> list[tuple[str, Task]]:
    """Return the kernels with the most work of each model, none of them twice."""
    found: dict[str, tuple[str, Task]] = {}
    for model in arguments.model:
        program = models.trace(models.load(model))
        tasks = extract(frontend.lower(frontend.import_program(program), target).mod)
        for task in [t for t in tasks if t.workload not in found][: arguments.tasks]:
            found[task.workload] = (model, task)
    return list(found.values())


def _compare(task: Task, target: Target, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tuning-") as name:
        folders = {tuner: Path(name) / tuner for tuner in TUNERS}
        found = {}
        for tuner, folder in folders.items():
            folder.mkdir()
            (folder / MODULE).write_text(tvm.ir.save_json(task.module))
            found[tuner] = _search(tuner, folder, arguments.budget, arguments.stock_batch)
        with LocalDevice(threads=target.hardware.cores) as device:
            made = {
                "tvm_eff": winners.ours(task, target, device, folders["tvm_eff"]),
                "MetaSchedule": winners.stock(task, target, device, folders["MetaSchedule"]),
            }
            built = {tuner: winner for tuner, winner in made.items() if winner is not None}
            medians = winners.side_by_side(task, device, built, arguments.rounds)
    for tuner, winner in built.items():
        found[tuner] |= {"error": winner.error, "winner_s": medians.get(tuner)}
    return {"tuners": found}


def _search(tuner: str, folder: Path, budget: float, batch: int) -> dict[str, Any]:
    """Let one tuner work until its time is over or it has nothing left to try."""
    cores = str(len(os.sched_getaffinity(0)))
    started = time.monotonic()
    log = folder / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "engines.search", tuner, str(folder), str(batch)],
            cwd=BENCHMARKS,
            env={
                **os.environ,
                "TVM_NUM_THREADS": cores,
                "PYTHONPATH": f"{BENCHMARKS.parent}:{os.environ.get('PYTHONPATH', '')}",
            },
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        events = _listen(process, started, budget)
    finally:
        taken = min(time.monotonic() - started, budget)
        _end(process)
    ready = next((at for at, line in events if line == "ready"), None)
    candidates = [(at, line) for at, line in events if line != "ready"]
    found = {
        "ready_s": ready,
        "seconds": taken,
        "candidates": len(candidates),
        "failed": sum(value is None for _, value in candidates),
        "per_second": len(candidates) / taken,
        "measured": candidates,
    }
    if process.returncode not in (0, -signal.SIGKILL):
        lines = log.read_text(errors="replace").splitlines()
        found["failure"] = lines[-1][:200] if lines else f"exit code {process.returncode}"
    return found


def _listen(
    process: subprocess.Popen[bytes], started: float, budget: float
) -> list[tuple[float, Any]]:
    """Return what it says, with the time of each line."""
    assert process.stdout is not None
    events: list[tuple[float, Any]] = []
    descriptor, rest = process.stdout.fileno(), b""
    while (left := started + budget - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        read = os.read(descriptor, 65536)
        if not read:
            process.wait()
            break
        *lines, rest = (rest + read).split(b"\n")
        at = time.monotonic() - started
        events += [(round(at, 3), json.loads(line)) for line in lines]
    return events


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it has started, in whatever session that is."""
    import psutil

    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.kill() if process.poll() is None else None
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def _write(result: dict[str, Any], folder: Path) -> None:
    part = folder / "tuning.part"
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.rename(folder / "tuning.json")
    (folder / "tuning.md").write_text(_markdown(result))
    _plot(result, folder / "tuning.png")


def _markdown(result: dict[str, Any]) -> str:
    lines = [
        f"{result['machine']}, {result['cores']} cores, {result['date']}; "
        f"{result['budget_s']:g} s for each tuner and kernel, imports included; "
        f"MetaSchedule in batches of {result['stock_batch']}.",
        "",
        "| model | kernel | tuner | candidates | failed | a second | winner, us | error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["tasks"]:
        for tuner, found in row["tuners"].items():
            best, error = found.get("winner_s"), found.get("error")
            if "failure" in found:
                reason = found["failure"].replace("|", "\\|")
                lines.append(f"| {row['model']} | {row['task']} | {tuner} | {reason} | | | | |")
                continue
            lines.append(
                f"| {row['model']} | {row['task']} | {tuner} | {found['candidates']} "
                f"| {found['failed']} | {found['per_second']:.2f} "
                f"| {'-' if best is None else format(best * 1e6, '.1f')} "
                f"| {'-' if error is None else format(error, '.1e')} |"
            )
    return "\n".join(lines) + "\n"


def _plot(result: dict[str, Any], path: Path) -> None:
    """Draw the best latency found against wall time, one panel a kernel."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = result["tasks"]
    figure, axes = pyplot.subplots(
        len(rows), 1, figsize=(7, 2.6 * len(rows)), squeeze=False, layout="constrained"
    )
    for axis, row in zip(axes[:, 0], rows, strict=True):
        for tuner, found in row["tuners"].items():
            times, best = [], []
            for at, value in found["measured"]:
                if value is not None:
                    times.append(at)
                    best.append(min(value * 1e6, best[-1]) if best else value * 1e6)
            if times:
                axis.step(
                    [*times, result["budget_s"]], [*best, best[-1]], where="post", label=tuner
                )
        axis.set(title=f"{row['model']}: {row['task']}", yscale="log", ylabel="best, us")
        axis.set_xlim(0, result["budget_s"])
    axes[-1, 0].set_xlabel("wall time, s")
    axes[0, 0].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=["squeezenet1_1", "mobilenet"])
    parser.add_argument("--tasks", type=positive, default=4, help="kernels of each model")
    parser.add_argument(
        "--budget", type=seconds, default=120.0, help="wall time of each tuner on each kernel"
    )
    parser.add_argument(
        "--stock-batch",
        type=positive,
        default=16,
        help="candidates MetaSchedule measures at a time; its own default is 64, which is "
        "more than it measures in a minute (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=positive, default=7, help="turns of the two winners")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results")
    return parser


if __name__ == "__main__":
    sys.exit(main())

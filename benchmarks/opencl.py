"""Networks on this machine's OpenCL device: our schedules beside TVM's default ones.

    python benchmarks/opencl.py --target rk3399-mali

TVM's default is `tvm.compile` of the imported network for the same target, which dlight
schedules. Both libraries run on the same device through the RPC server and take turns, and
are compared with PyTorch before. The device is in software (PoCL, or Intel's for float16):
its times rank schedules on it, and are no board's. Results go to opencl-TARGET.json in
--output, in the place of those of an earlier run, after each model; a Markdown table is
printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import results_file
import tvm
from results_file import Result
from tvm.relax import transform

from tvm_eff import frontend, models, passes, targets, tune
from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run
from tvm_eff.codegen import build_module
from tvm_eff.deploy.library import build_library
from tvm_eff.deploy.validate import case_of, validation
from tvm_eff.device import Device, MeasureOptions, select
from tvm_eff.errors import UsageError
from tvm_eff.passes import RelaxNetwork
from tvm_eff.progress import Progress, RichProgress
from tvm_eff.targets import Target
from tvm_eff.tensors import random_inputs

MODELS = ("squeezenet", "squeezenet1_1", "mobilenet", "flattened", "factorized", "xception")
INPUTS = 5
"""Seeded inputs that both libraries are compared with PyTorch on."""

TURN = MeasureOptions(repeat=1, min_repeat_ms=200.0, budget_s=10.0)


def main(argv: list[str] | None = None) -> int:
    """Measure every model and write what came out."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    target = targets.load(arguments.target)
    if target.gpu is None:
        raise UsageError(f"--target {arguments.target} has no GPU")
    for model in arguments.model:
        models.spec(model)
    run_now = results_file.begin(__file__, argv)
    suffix = "" if arguments.dtype == "float32" else f"-{arguments.dtype}"
    path = arguments.output / f"opencl-{target.name}{suffix}.json"
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, RichProgress() as progress:
        logs = arguments.logs or Path(name)
        selected = select(target, None, "", progress, arguments.dtype)
        with selected.device as device:
            bench = Bench(
                selected.target, arguments.dtype, device, logs, progress, arguments.rounds
            )
            about = {"target": target.name, "dtype": arguments.dtype, "where": device.where}
            for model in arguments.model:
                rows.append(bench.measure(model))
                print(json.dumps(rows[-1]), flush=True)
                # All of it takes long: what is done is kept.
                result = run_now.with_data({**about, "rounds": arguments.rounds, "rows": rows})
                result.write(path)
    print(table(result))
    print(f"\nwritten to {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="rk3399-mali")
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--logs", type=Path, help="the folder of records (default: start afresh)")
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    return parser


@dataclass(frozen=True)
class Bench:
    """What all models are measured with."""

    target: Target
    dtype: str
    device: Device
    logs: Path
    progress: Progress
    rounds: int

    def measure(self, model: str) -> dict[str, Any]:
        """Build a network twice, check both libraries, and time them in turns."""
        network = models.load(model)
        program = models.trace(network)
        imported = frontend.import_program(program)
        inputs = [random_inputs(network.inputs, seed) for seed in range(INPUTS)]
        cases = [case_of(program, each) for each in inputs]
        with tempfile.TemporaryDirectory() as name:
            default, ours = Path(name) / "default.so", Path(name) / "ours.so"
            build_default(imported, self.target, default)
            started = time.monotonic()
            records = tune.RecordStore.of(self.logs, self.target, self.device)
            lowered = passes.lower(imported, self.target, self.dtype)
            tasks = tune.extract(lowered.mod)
            tuned = tune.tune(tasks, self.target, self.device, records, progress=self.progress)
            build_library(lowered, tune.winners(tuned), self.target, ours)
            seconds = time.monotonic() - started
            libraries = {"default": default, "tvm_eff": ours}
            # The default library computes in float32 whatever ours does.
            known, *_ = validation(self.device, default, cases, "float32")
            found, *_ = validation(self.device, ours, cases, self.dtype)
            size = ours.stat().st_size
            times = turns(self.device, libraries, inputs[0], self.rounds)
        ratios = [a / b for a, b in zip(times["default"], times["tvm_eff"], strict=True)]
        return {
            "model": model,
            "default_ms": statistics.median(times["default"]) * 1e3,
            "ms": statistics.median(times["tvm_eff"]) * 1e3,
            "faster": statistics.median(ratios),
            "faster_least": min(ratios),
            "inputs": INPUTS,
            "default_error": known.largest_error,
            "error": found.largest_error,
            "same_class": found.same_class,
            "bytes": size,
            "candidates": sum(each.measured for each in tuned),
            "failed": sum(each.failed for each in tuned),
            "tuning_s": seconds,
        }


def build_default(network: RelaxNetwork, target: Target, path: Path) -> None:
    """Compile the imported network as TVM does by itself, in float32."""
    main = network.mod["main"]
    variables = main.params[len(main.params) - len(network.params) :]
    values = [tvm.runtime.tensor(each) for each in network.params]
    mod = transform.BindParams("main", dict(zip(variables, values, strict=True)))(network.mod)
    build_module(transform.DecomposeOpsForInference()(mod), target, path)


def turns(
    device: Device, libraries: dict[str, Path], inputs: list[np.ndarray], rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of an inference in every round."""
    times: dict[str, list[float]] = {name: [] for name in libraries}
    for turn in range(rounds):
        order = list(libraries) if turn % 2 == 0 else list(libraries)[::-1]
        for name in order:
            _, measured = device.run(libraries[name], inputs, measure=TURN)
            assert measured is not None
            times[name].append(measured.median)
    return times


def table(result: Result) -> str:
    """Return the result as Markdown."""
    data = result.data
    lines = [
        f"Milliseconds an inference, {data['dtype']} for {data['target']}, on {data['where']}; "
        f"no board's times. {result.provenance}",
        "",
        "| model | TVM's default, dlight | tvm_eff | faster | largest error | candidates, tuning |",
        "|---|---|---|---|---|---|",
    ]
    for row in data["rows"]:
        lines.append(
            f"| {row['model']} | {row['default_ms']:.0f} | {row['ms']:.2f} | {row['faster']:.0f}x "
            f"| {row['error']:.1e} of the spread | {row['candidates']}, {row['tuning_s']:.0f} s |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

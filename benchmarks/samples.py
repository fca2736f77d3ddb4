"""Where the processor is while a network runs on this machine, loop by loop.

    python benchmarks/samples.py --model flattened factorized

Takes the winners that are on record, so tune the model first (scripts/tune.py). Linux's perf
samples a process that runs the library over and over, and binutils' objdump says which
loops its code has. No counters of the processor are needed, which virtual machines lack.
A table is printed, and --json writes what it is made of.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import results_file
from roofline import network
from sampling import perf, report, x86

from tvm_eff import api, models, targets
from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run
from tvm_eff.device import LocalDevice
from tvm_eff.errors import UsageError
from tvm_eff.targets import Target
from tvm_eff.tune import RecordStore


def main(argv: list[str] | None = None) -> int:
    """Sample the models that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    for model in arguments.model:
        models.spec(model)
    target = targets.load("host")
    if not target.toolchain.triple.startswith("x86_64"):
        raise UsageError("only loops of x86 are known, and this machine is none")
    run_now = results_file.begin(__file__, argv)
    here = LocalDevice(threads=target.hardware.cores)
    store = RecordStore.of(arguments.logs or api.default_logs(target), target, here)
    rows = []
    for model in arguments.model:
        rows += _sampled(model, target, store, arguments.seconds)
    result = run_now.with_data({"rows": rows})
    print("\n".join(report.section(result)))
    if arguments.json is not None:
        result.write(arguments.json)


def _sampled(
    model: str, target: Target, store: RecordStore, seconds: float
) -> list[dict[str, Any]]:
    """Return a row for one thread, and one for all."""
    processors = sorted(os.sched_getaffinity(0))
    rows = []
    with tempfile.TemporaryDirectory(prefix="samples-") as name:
        folder = Path(name)
        made = network.load(model, target, store)
        library, inputs = made.build(store, folder), folder / "inputs.npz"
        np.savez(inputs, *made.inputs())
        for chosen in (processors[:1], processors):
            found = perf.sample(library, inputs, chosen, seconds, folder)
            loops = x86.loops(library, found.offsets)
            rows.append(report.row(model, len(chosen), found, loops))
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=["flattened", "factorized"])
    parser.add_argument("--seconds", type=positive, default=20, help="default: %(default)s")
    parser.add_argument("--logs", type=Path, help="the folder of records (default: tune.py's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


if __name__ == "__main__":
    sys.exit(main())

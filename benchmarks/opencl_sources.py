"""Is the OpenCL C of every network valid, in float32 and in float16?

    python benchmarks/opencl_sources.py --target rk3399-mali

No device is needed: each network of the zoo is built for the target with the most promising
schedule of every kernel, and a compiler's front end reads what was generated, as it does
whenever a library is built. Results go to sources-TARGET.json in --output.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import results_file

from tvm_eff import frontend, models, passes, schedules, targets, tune
from tvm_eff.cli.run import run
from tvm_eff.deploy.library import build_library
from tvm_eff.errors import Error
from tvm_eff.models.registry import names
from tvm_eff.passes import RelaxNetwork
from tvm_eff.targets import Target


def main(argv: list[str] | None = None) -> int:
    """Build every network and write what came out."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="rk3399-mali")
    parser.add_argument("--model", nargs="+", default=names())
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    arguments = parser.parse_args(argv)
    target = targets.load(arguments.target)
    run_now = results_file.begin(__file__, argv)
    rows = []
    for model in arguments.model:
        imported = frontend.import_program(models.trace(models.load(model)))
        for dtype in passes.DTYPES:
            rows.append({"model": model, "dtype": dtype, **check(imported, target, dtype)})
            print(json.dumps(rows[-1]), flush=True)
    path = arguments.output / f"sources-{target.name}.json"
    run_now.with_data({"target": target.name, "rows": rows}).write(path)
    print(f"written to {path}")
    return int(not all(row["valid"] for row in rows))


def check(network: RelaxNetwork, target: Target, dtype: str) -> dict[str, Any]:
    """Build one network; say whether its source is valid, and what it needs of a device."""
    started = time.monotonic()
    lowered = passes.lower(network, target, dtype)
    tasks = tune.extract(lowered.mod)
    winners = {
        task.workload: next(iter(schedules.candidates(task.func, target)), schedules.UNSCHEDULED)
        for task in tasks
    }
    with tempfile.TemporaryDirectory() as name:
        library = Path(name) / "model.so"
        try:
            needs = build_library(lowered, winners, target, library)
        except Error as error:
            return {"valid": False, "error": str(error)}
        assert needs is not None, "the target has a GPU"
        return {
            "valid": True,
            "kernels": len(tasks),
            "bytes": library.stat().st_size,
            "needs": asdict(needs),
            "seconds": round(time.monotonic() - started, 1),
        }


if __name__ == "__main__":
    sys.exit(main())

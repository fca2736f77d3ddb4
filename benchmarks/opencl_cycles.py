"""Does loading, running and unloading OpenCL libraries leave memory behind?

    python benchmarks/opencl_cycles.py

A library with an OpenCL kernel is loaded from a path of its own each time, as TVM knows a
library by its path, run, checked and unloaded. The resident memory of the process is
looked at after a warm-up of half as many cycles and at the end, on each software device
that is installed. Results go to opencl-cycles.json in --output.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import results_file
import tvm
import tvm_ffi
from tvm import te
from tvm.s_tir import Schedule

from tvm_eff import targets
from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run
from tvm_eff.codegen import build_kernel
from tvm_eff.device import opencl
from tvm_eff.errors import DeviceError

SIZE = 64


def main(argv: list[str] | None = None) -> int:
    """Count on every device and write what came out."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cycles", type=positive, default=1000)
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    arguments = parser.parse_args(argv)
    run_now = results_file.begin(__file__, argv)
    # A driver stays in its process: each has one of its own.
    context = multiprocessing.get_context("spawn")
    rows = []
    for name in opencl.software_drivers():
        with context.Pool(1) as pool:
            rows.append(pool.apply(measure, (name, arguments.cycles)))
        print(json.dumps(rows[-1]), flush=True)
    if not rows:
        raise DeviceError("no OpenCL device in software is installed; see docs/opencl.md")
    path = arguments.output / "opencl-cycles.json"
    run_now.with_data({"devices": rows}).write(path)
    print(f"written to {path}")


def measure(name: str, cycles: int) -> dict[str, Any]:
    """Return how the memory of this process grows on one driver's device."""
    opencl.load(name)
    device = opencl.devices()[0]
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "doubling.so"
        build_kernel(doubling(), targets.load("opencl-host"), library)
        for index in range(cycles // 2):
            cycle(library, index)
        before = process.memory_info().rss
        for index in range(cycles):
            cycle(library, index)
        grown = process.memory_info().rss - before
    return {"device": f"{device.name} ({device.driver})", "cycles": cycles, "grown_bytes": grown}


def doubling() -> Schedule:
    """Return a kernel that doubles a matrix."""
    x = te.placeholder((SIZE, SIZE), name="x")
    y = te.compute((SIZE, SIZE), lambda i, j: x[i, j] * 2.0, name="y")
    sch = Schedule(te.create_prim_func([x, y]).with_attr("global_symbol", "main"))
    both = sch.fuse(*sch.get_loops(sch.get_sblock("y")))
    group, item = sch.split(both, [None, SIZE])
    sch.bind(group, "blockIdx.x")
    sch.bind(item, "threadIdx.x")
    return sch


def cycle(library: Path, index: int) -> None:
    """Load, run, check and unload the library once."""
    copy = library.with_name(f"copy_{index}.so")
    shutil.copyfile(library, copy)
    module = tvm_ffi.load_module(copy, keep_module_alive=False)
    copy.unlink()
    given = np.full((SIZE, SIZE), index, "float32")
    device = tvm.device("opencl", 0)
    x, y = (tvm.runtime.tensor(each, device) for each in (given, np.zeros_like(given)))
    module["main"](x, y)
    if not (y.numpy() == 2 * given).all():
        raise DeviceError(f"cycle {index} computed something else")


if __name__ == "__main__":
    sys.exit(main())

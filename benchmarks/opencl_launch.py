"""What the OpenCL plug-in adds to a launch: TVM's calls beside OpenCL's own.

    python benchmarks/opencl_launch.py

Both send the same kernel of three buffers and a number, with all arguments set each
time, to the same device (PoCL, or Intel's with --driver intel), and wait at the end; they
take turns. The kernel does next to nothing, so that what is timed is the way to it.
Results go to opencl-launch.json in --output; nothing else should run.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import results_file
import tvm

from tvm_eff import paths
from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run
from tvm_eff.device import opencl
from tvm_eff.device.opencl.drivers import driver
from tvm_eff.errors import BuildError, DeviceError

BENCHMARKS = Path(__file__).resolve().parent
SOURCE = """
__kernel void touch(__global float* a, __global float* b, __global float* c, int n) {
  if (get_global_id(0) == 0) a[0] = b[0] + c[0] + n;
}"""
BUFFERS = 3
EXTENTS = (4, 16)


def main(argv: list[str] | None = None) -> int:
    """Write the microseconds of a launch by either way."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    run_now = results_file.begin(__file__, argv)
    opencl.load(arguments.driver)
    (device,) = opencl.devices()
    ways = {"plug-in": _plugin(), "OpenCL": _raw(driver(arguments.driver))}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(arguments.turns + 1):
        for name, launch in ways.items():
            seconds = launch(arguments.launches)
            if turn:
                times[name].append(seconds / arguments.launches * 1e6)
    medians = {name: statistics.median(each) for name, each in times.items()}
    data = {
        "device": f"{device.name} ({device.platform}, {device.driver_version})",
        "launches": arguments.launches,
        "microseconds": times,
        "median_microseconds": medians,
        "overhead_microseconds": medians["plug-in"] - medians["OpenCL"],
    }
    path = arguments.output / "opencl-launch.json"
    run_now.with_data(data).write(path)
    for name, median in medians.items():
        print(f"{name:8} {median:7.2f} us a launch (fastest {min(times[name]):.2f})")
    print(f"overhead {data['overhead_microseconds']:7.2f} us; written to {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="opencl_launch.py",
        description="Time launches by the OpenCL plug-in and by OpenCL's own functions, in turns.",
    )
    parser.add_argument("--driver", choices=("pocl", "intel"), default="pocl")
    parser.add_argument("--launches", type=positive, default=2000, help="a turn (%(default)s)")
    parser.add_argument("--turns", type=positive, default=15, help="%(default)s")
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    return parser


def _plugin() -> Callable[[int], float]:
    device = tvm.device("opencl", 0)
    zeros = np.zeros(1024, "float32")
    tensors = [tvm.runtime.tensor(zeros, device) for _ in range(BUFFERS)]
    module = tvm.get_global_func("ffi.Module.load_from_bytes.opencl")(_module())

    def launch(count: int) -> float:
        # On the processor's timer, TVM loops in C++ and does not wait for the device.
        evaluate: Any = module.time_evaluator("touch", tvm.cpu(), number=count, repeat=1)
        given = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
        start = time.perf_counter()
        evaluate(*given, 1, *EXTENTS)
        device.sync()
        return time.perf_counter() - start

    launch(1)
    if tensors[0].numpy()[0] != 1:
        raise DeviceError("the kernel did not run")
    return launch


def _module() -> bytes:
    """Return the module in the bytes that TVM writes."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    types = [struct.pack("<BBH", 3, 64, 1)] * BUFFERS + [struct.pack("<BBH", 0, 32, 1)]
    tags = [text("blockIdx.x"), text("threadIdx.x")]
    parts = [text("cl"), struct.pack("<Q", 1), text("touch"), text("touch")]
    parts += [struct.pack("<Q", len(types)), *types, struct.pack("<Q", len(tags)), *tags]
    return b"".join([*parts, struct.pack("<Q", 0), text(SOURCE)])


def _raw(library: Path) -> Callable[[int], float]:
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "raw.so"
        command = ["g++", "-std=c++17", "-O2", "-fPIC", "-shared"]
        command += [
            f"-I{paths.data_folder('runtime') / 'opencl'}",
            str(BENCHMARKS / "opencl_raw.cc"),
        ]
        done = subprocess.run(
            [*command, "-ldl", "-o", str(built)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise BuildError(f"opencl_raw.cc does not compile:\n{done.stderr[-2000:]}")
        raw = ctypes.CDLL(str(built))
    raw.launch.restype = ctypes.c_double
    failed = raw.prepare(str(library).encode(), SOURCE.encode(), b"touch", BUFFERS)
    if failed:
        raise DeviceError(f"step {failed} of preparing the launches by OpenCL alone failed")

    def launch(count: int) -> float:
        return float(raw.launch(count))

    return launch


if __name__ == "__main__":
    sys.exit(main())

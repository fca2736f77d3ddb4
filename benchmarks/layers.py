"""What holds each kernel of a network: a roofline here, instructions on an emulated board.

    python benchmarks/layers.py --model squeezenet1_1 mobilenet
    python benchmarks/layers.py --target rasp4 --model squeezenet1_1 mobilenet

Takes the winners that are on record, so tune the model first (scripts/tune.py). On this
machine each kernel's time, alone with warm caches and in place in the whole library, is
held against the measured peaks of multiply-adds and of reading; nothing else should run.
On a board each kernel is run alone under qemu, and what it executes is counted. Results
go to layers-TARGET.json and layers-TARGET.md in --output, in the place of those of an
earlier run.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

# TVM would take half of them, and reads this once.
os.environ.setdefault("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))

import results_file
from engines.arm_mix import MixDevice
from engines.peak import Peak
from results_file import Result
from roofline import board, host, network, prose, report
from roofline.bandwidth import Bandwidth
from roofline.bounds import Limits

from tvm_eff import api, models, targets
from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run
from tvm_eff.device import EmulatedDevice, LocalDevice
from tvm_eff.errors import UsageError
from tvm_eff.targets import Target
from tvm_eff.tune import RecordStore

FAR = 16
"""How many times its second cache a core reads to find out what comes from beyond."""


def main(argv: list[str] | None = None) -> int:
    """Write the kernels of the models that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    for model in arguments.model:
        models.spec(model)
    target = targets.load(arguments.target)
    logs = arguments.logs or api.default_logs(target)
    make = _on_host if target.name == "host" else _on_board
    run_now = results_file.begin(__file__, argv)
    result = run_now.with_data(make(target, logs, arguments))
    text = _markdown(result)
    path = arguments.output / f"layers-{target.name}.json"
    result.write(path)
    path.with_suffix(".md").write_text(text)
    print(text)


def _on_host(target: Target, logs: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    here = LocalDevice(threads=target.hardware.cores)
    store = RecordStore.of(logs, target, here)
    networks = {name: network.load(name, target, store) for name in arguments.model}
    cores, second = sorted(os.sched_getaffinity(0)), target.hardware.l2_kib * 1024
    bandwidth = Bandwidth()
    return {
        "threads": int(os.environ["TVM_NUM_THREADS"]),
        "peak_gflops": Peak().measure(cores) / 1e9,
        "bandwidth_gbs": {
            "near": bandwidth.measure(cores, second // 2) / 1e9,
            "far": bandwidth.measure(cores, FAR * second) / 1e9,
        },
        "models": {name: host.rows(each, store, arguments.runs) for name, each in networks.items()},
    }


def _on_board(target: Target, logs: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    emulator = target.emulator
    if emulator is None or emulator.arch != "aarch64":
        raise UsageError(
            f"--target {arguments.target}: instructions are told apart on emulated 64-bit Arm "
            "boards only, such as rasp4"
        )
    store = RecordStore.of(logs, target, EmulatedDevice(emulator.arch, emulator.cpu))
    networks = {name: network.load(name, target, store) for name in arguments.model}
    with MixDevice(emulator.arch, emulator.cpu) as device:
        return {
            "target": target.name,
            "where": device.where,
            "models": {name: board.rows(each, store, device) for name, each in networks.items()},
        }


def _markdown(result: Result) -> str:
    data = result.data
    in_seconds = "peak_gflops" in data
    heading = report.heading(data) if in_seconds else report.board_heading(data)
    lines = [result.provenance, "", heading]
    limits = Limits.of(data) if in_seconds else None
    for model, rows in data["models"].items():
        lines += ["", f"## {model}", ""]
        if limits is not None:
            lines += [*prose.sentences(rows, limits), "", *report.seconds(data, rows)]
        else:
            lines += [*report.instruction_sentences(rows), "", *report.instructions(rows)]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="host", help="default: %(default)s")
    parser.add_argument("--model", nargs="+", default=["squeezenet1_1", "mobilenet"])
    parser.add_argument("--logs", type=Path, help="the folder of records (default: tuning_logs)")
    parser.add_argument("--runs", type=positive, default=50, help="inferences that are profiled")
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())

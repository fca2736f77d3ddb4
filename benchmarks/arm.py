"""Our libraries and their peers' aarch64 wheels on an emulated board.

    python3 -m venv benchmarks/.venv
    benchmarks/.venv/bin/pip install -r benchmarks/requirements.txt
    python benchmarks/arm.py --models squeezenet1_1 mobilenet

What is counted are executed instructions of one warm inference, which are no
latencies. Models are converted here, by the environment of peers.py; the engines' own
aarch64 wheels (requirements-arm.txt) are downloaded and run in qemu, each in a process
of its own, and each output is compared with PyTorch's before it is counted. An engine
that fails is reported with its reason. Results go to arm-rasp4.json and arm-rasp4.md in
--output, in the place of those of an earlier run, after each model; the table is printed.

--target rasp5 is the Cortex-A76, and the names of the results say so.

    python benchmarks/arm.py --dtype int8 --target rasp5 --trials 4

Each engine is quantized by its own tools, ours too, on the same images; an int8 network is as far
off PyTorch's float32 as its quantization is. --dtype float16 takes --target rasp5, whose
processor computes in it; ONNX Runtime has a tool for it, MNN and ncnn an option. An engine that
cannot be asked for a dtype has a row with the reason.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import results_file
from engines import arm_board
from engines.arm_board import ARCH, Board
from engines.arm_count import TOLERANCES, Counted, Options, count_ours, count_peer
from engines.arm_report import markdown, row_of
from engines.base import ENGINES, UNABLE, Engine
from engines.peers_python import add_peers_python, require_peers_python
from engines.results import OURS, Row
from engines.workload import TuneOptions, Workload, add_tune_options, prepare, tune

from tvm_eff import models, passes, targets
from tvm_eff.cli import interrupt
from tvm_eff.cli.arguments import one_of, positive
from tvm_eff.cli.run import leave, run
from tvm_eff.deploy import bundle
from tvm_eff.device import EmulatedDevice

TARGETS = ("rasp4", "rasp5")
NAMES = (OURS, "ONNX Runtime", "MNN", "ncnn", "LiteRT")


def main(argv: list[str] | None = None) -> int:
    """Count the engines that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    _check(arguments)
    run_now = results_file.begin(__file__, argv)
    cpu = _cpu(arguments.target)
    peers = set(arguments.engines) - {OURS}
    board = arm_board.board(arguments.peers_python, cpu) if peers else None
    about = {
        "target": arguments.target,
        "dtype": arguments.dtype,
        "where": EmulatedDevice(ARCH, cpu).where,
    }
    rows: list[Row] = []
    suffix = "" if arguments.dtype == "float32" else f"-{arguments.dtype}"
    path = arguments.output / f"arm-{arguments.target}{suffix}.json"
    for model in arguments.models:
        rows.append(_row(model, board, arguments))
        result = run_now.with_data({**about, "rows": rows})
        result.write(path)
        path.with_suffix(".md").write_text(markdown(result))
    print(markdown(result))
    print(f"written to {path} and beside it")


def _check(arguments: argparse.Namespace) -> None:
    """Find out before the first minute what the last would stumble on."""
    passes.require_dtype(targets.load(arguments.target), arguments.dtype)
    if set(arguments.engines) - {OURS}:
        require_peers_python(arguments.peers_python)
    for model in arguments.models:
        models.spec(model)


def _cpu(target: str) -> str:
    """The processor that is emulated."""
    emulator = targets.load(target).emulator
    assert emulator is not None, "the targets here are boards that are emulated"
    return emulator.cpu


def _row(model: str, board: Board | None, arguments: argparse.Namespace) -> Row:
    """Count all engines on one model."""
    with tempfile.TemporaryDirectory(prefix="arm-") as name:
        folder = Path(name)
        _say(f"{model}: tracing it")
        workload = prepare(model, 1, folder / "workload", arguments.dtype)
        options = Options(arguments.timeout, arguments.peers_python, folder)
        counted: dict[str, Counted] = {}
        for engine in (each for each in ENGINES if each.name in arguments.engines):
            _say(f"{model}: {engine.name}")
            if engine.name == OURS:
                counted[engine.name] = _ours(workload, arguments)
                continue
            assert board is not None, "there is one as soon as there is a peer"
            counted[engine.name] = _peer(engine, workload, arguments.target, board, options)
        return row_of(counted, model=model, macs=workload.macs)


def _peer(
    engine: Engine, workload: Workload, target: str, board: Board, options: Options
) -> Counted:
    if workload.dtype not in engine.dtypes:
        return Counted(failure=UNABLE[engine.name, workload.dtype])
    job = workload.job(engine, sorted(os.sched_getaffinity(0))[:1], None)
    job = replace(job, activations=activations(target))
    return count_peer(engine, job, workload.expected, board, options)


def activations(target: str) -> str:
    """Return the bytes with which ONNX Runtime, which leaves the choice, executes less."""
    # Where there is no sdot, MobileNet takes 170.6 million without a sign and 196.7 with one.
    return "int8" if targets.load(target).has("dotprod") else "uint8"


def _ours(workload: Workload, arguments: argparse.Namespace) -> Counted:
    cores = sorted(os.sched_getaffinity(0))
    options = replace(TuneOptions.of(arguments), dtype=arguments.dtype)
    tuned = tune(workload, arguments.logs, cores, options, arguments.target)
    if tuned.bundle is None:
        return Counted(failure=tuned.failure)
    library = bundle.read(tuned.bundle).library
    x = np.load(workload.folder / "input.npy")
    tolerance = TOLERANCES[arguments.dtype]
    return count_ours(library, x, workload.expected, _cpu(arguments.target), tolerance)


def _say(text: str) -> None:
    interrupt.check()
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["squeezenet1_1", "mobilenet"])
    parser.add_argument("--target", choices=TARGETS, default=TARGETS[0])
    parser.add_argument("--dtype", choices=tuple(TOLERANCES), default="float32")
    parser.add_argument(
        "--engines",
        nargs="+",
        type=one_of("engine", NAMES),
        default=NAMES,
        help="default: all",
    )
    parser.add_argument(
        "--timeout",
        type=positive,
        default=600,
        metavar="S",
        help="seconds to convert, load or answer",
    )
    add_peers_python(parser)
    add_tune_options(parser)
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    return parser


if __name__ == "__main__":
    leave(main())

"""Does a change leave every kernel's code as it was?

    python benchmarks/replay.py --write before.json     # before the change
    python benchmarks/replay.py --against before.json   # after it

For every target and every network of the zoo it lowers the network and builds each distinct
kernel: as imported, with the first candidate of each schedule rule, and with the candidate
that the shipped records name. It keeps hashes of the lowered network, of its weights, of the
scheduled TIR and of the object code (and the OpenCL C of a GPU's). Nothing is run. The host's
kernels depend on the processor, and a kernel that several networks share has the names of the
first: both files have to come from one machine, with the same --target and --model.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm_ffi.serialization import from_json_graph_str

from tvm_eff import frontend, models, passes, schedules, targets, tune
from tvm_eff.api import default_logs
from tvm_eff.cli.run import run
from tvm_eff.codegen.compile import compile_kernel
from tvm_eff.codegen.opencl_source import source_of
from tvm_eff.device import Unit
from tvm_eff.models.registry import names
from tvm_eff.passes import RelaxNetwork
from tvm_eff.schedules import Candidate
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target
from tvm_eff.tune import RecordStore, Task
from tvm_eff.tune.builder import Builder, Job

Hashes = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Hash the code of all kernels, and write it or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE", help="write the hashes")
    what.add_argument("--against", type=Path, metavar="FILE", help="compare with hashes written")
    parser.add_argument("--target", nargs="+", default=targets.names())
    parser.add_argument("--model", nargs="+", default=names())
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    found = replay(arguments.target, arguments.model)
    print(f"{_count(found)} kernels in {time.monotonic() - started:.0f} s")
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return 0
    before = json.loads(arguments.against.read_text())
    lines = list(differences(before, json.loads(json.dumps(found))))
    print("\n".join(lines) if lines else "all are the same")
    return int(bool(lines))


def replay(target_names: Sequence[str], model_names: Sequence[str]) -> Hashes:
    """Return the hashes of every network for every target, by target and network."""
    tune.preload()
    found: Hashes = {}
    imported = {
        name: frontend.import_program(models.trace(models.load(name))) for name in model_names
    }
    with Builder(timeout=300.0) as builder:
        for target_name in target_names:
            target = targets.load(target_name)
            for dtype in _dtypes(target):
                key = target_name if dtype == "float32" else f"{target_name} {dtype}"
                found[key] = _replay_target(imported, target, dtype, builder)
                print(f"{key}: {_count({key: found[key]})} kernels", file=sys.stderr, flush=True)
    return found


def _dtypes(target: Target) -> tuple[str, ...]:
    """Return what a network of the zoo can be lowered to; one in int8 is quantized first."""
    has_half = target.gpu is not None or target.float16
    return ("float32", "float16") if has_half else ("float32",)


def _replay_target(
    imported: dict[str, RelaxNetwork], target: Target, dtype: str, builder: Builder
) -> Hashes:
    networks, jobs = {}, {}
    with scratch_folder() as folder:
        records = _records(target, folder)
        for name, network in imported.items():
            lowered = passes.lower(network, target, dtype)
            tasks = tune.extract(lowered.mod)
            networks[name] = {
                "main": _structural(lowered.mod),
                "weights": _digest(*(each.tobytes() for each in lowered.params)),
                "kernels": [[task.workload, task.calls] for task in tasks],
            }
            for task in tasks:
                if task.workload not in jobs:
                    jobs[task.workload] = _submit(task, target, records, builder)
    kernels = {
        workload: [{"candidate": name, **job.result()} for name, job in submitted.items()]
        for workload, submitted in jobs.items()
    }
    return {"networks": networks, "kernels": kernels}


def _records(target: Target, empty: Path) -> RecordStore:
    unit: Unit = "instructions" if target.emulator is not None and target.gpu is None else "seconds"
    logs = default_logs(target)
    shipped = (logs / target.log_name / unit).is_dir()
    return RecordStore(logs if shipped else empty, target, unit)


def _submit(task: Task, target: Target, records: RecordStore, builder: Builder) -> dict[str, Job]:
    module = tvm.ir.save_json(task.module)
    candidates = _candidates(task, target, records)
    return {
        str(candidate): builder.submit(hash_kernel, KernelJob(module, candidate, target))
        for candidate in candidates
    }


def _candidates(task: Task, target: Target, records: RecordStore) -> list[Candidate]:
    """The function as imported, the first of each rule, and the best on record."""
    first: dict[str, Candidate] = {}
    for candidate in schedules.candidates(task.func, target):
        first.setdefault(candidate.rule, candidate)
    best = records.best(task.workload)
    recorded = [] if best is None else [best.candidate]
    return list(dict.fromkeys([schedules.UNSCHEDULED, *first.values(), *recorded]))


@dataclass(frozen=True)
class KernelJob:
    """A candidate whose code is hashed in a worker process."""

    module: str
    candidate: Candidate
    target: Target


def hash_kernel(job: KernelJob) -> Hashes:
    """Return hashes of a candidate's TIR and code, or what it raised."""
    func = from_json_graph_str(job.module)["main"]
    try:
        sch = schedules.apply(func, job.candidate, job.target)
        built = compile_kernel(sch, job.target)
    except Exception as error:
        # Whatever it is, it must be the same after the change.
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    with scratch_folder() as folder:
        path = folder / "kernel.o"
        built.write_to_file(str(path), "o")
        code = path.read_bytes()
    return {
        "tir": _structural(sch.mod),
        "code": _digest(code),
        "opencl": _digest(source_of(built).encode()) if job.target.gpu is not None else None,
    }


def _structural(mod: tvm.IRModule) -> str:
    return f"{tvm_ffi.structural_hash(mod) & (1 << 64) - 1:016x}"


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Yield a line for each place where two trees of hashes differ.

    A candidate's name may change; its place among the candidates of its kernel may not.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted((before.keys() | after.keys()) - {"candidate"}):
            yield from differences(before.get(key), after.get(key), f"{where}/{key}")
    elif isinstance(before, list) and isinstance(after, list):
        for number, pair in enumerate(itertools.zip_longest(before, after)):
            yield from differences(*pair, f"{where}/{number}")
    elif before != after:
        yield f"{where}: {before} before, {after} now"


def _count(found: Hashes) -> int:
    return sum(len(each["kernels"]) for each in found.values())


if __name__ == "__main__":
    sys.exit(run(main))

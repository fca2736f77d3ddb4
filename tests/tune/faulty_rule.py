"""A design space full of traps, tuned as any other: ``python faulty_rule.py LOGS``.

A module that adds a rule to the table is all it takes: the builder's processes
import the main module too. It prints what won as JSON.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from pathlib import Path

from kernels import HOST, small_convolution
from tvm import tirx
from tvm.s_tir import SBlock, Schedule
from tvm.tirx import PrimFunc

from tvm_eff import tune
from tvm_eff.device import LocalDevice
from tvm_eff.schedules import Candidate, Packing, registry
from tvm_eff.schedules.cpu.convolution import RegisterTile
from tvm_eff.targets import Target

COMPUTES_NOTHING, ABORTS, HANGS, LACKS_A_SYMBOL, DOES_NOT_APPLY = range(5)
KILLS_BUILD, HANGS_BUILD, EXHAUSTS_MEMORY = range(5, 8)
TRAPS = 8
EXTERNAL = {ABORTS: "abort", HANGS: "pause", LACKS_A_SYMBOL: "no_such_function"}


class FaultyRule:
    """Register tiles, the most promising candidates of which are traps."""

    name = "faulty_rule"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return one candidate a trap, then two that are right."""
        right = RegisterTile().candidates(func, target)[:2]
        return [
            *(Candidate.of(self.name, {**right[0].as_dict(), "trap": n}) for n in range(TRAPS)),
            *(Candidate.of(self.name, {**each.as_dict(), "trap": TRAPS}) for each in right),
        ]

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return RegisterTile().packings(func, candidate)

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main``, and set the trap."""
        RegisterTile().apply(sch, candidate, target)
        trap = candidate["trap"]
        if trap == DOES_NOT_APPLY:
            raise RuntimeError("the loop is not there")
        if trap == KILLS_BUILD:
            os.abort()
        if trap == HANGS_BUILD:
            print("the build hangs", file=sys.stderr, flush=True)
            time.sleep(1000)
        if trap == EXHAUSTS_MEMORY:
            _take_all_memory()
        if trap < TRAPS:
            _replace_work(sch, EXTERNAL.get(trap))


def _take_all_memory() -> None:
    taken: list[mmap.mmap] = []
    while sum(map(len, taken)) < 1 << 42:
        # Of zeros that nobody writes: without a limit it costs the machine little.
        taken.append(mmap.mmap(-1, 1 << 30))


def _replace_work(sch: Schedule, function: str | None) -> None:
    """Have the innermost block call a C function instead, or do nothing: fast, and wrong."""
    update = sch.get_sblock("conv2d_nhwc_update")
    block = sch.get(update)
    call = tirx.call_extern("int32", function) if function else tirx.IntImm("int32", 0)
    idle = SBlock(block.iter_vars, [], [], block.name_hint, tirx.Evaluate(call))
    sch.state.replace(sch.get_sref(update), idle, {block: idle})


registry.RULES = (FaultyRule(), *registry.RULES)


def main(logs: Path, traps: int = TRAPS, timeout: float = 10.0) -> None:
    """Tune one convolution, on some of the traps alone if asked to, and print what won."""
    task = small_convolution()
    with LocalDevice(threads=1, timeout=0.3 * timeout) as device:
        records = tune.RecordStore(logs, HOST, device.unit, device.identity)
        options = tune.TuneOptions(trials=traps + 2, workers=2, build_timeout=timeout)
        (result,) = tune.tune([task], HOST, device, records, options)
    print(json.dumps({"trap": result.candidate["trap"], "failed": result.failed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

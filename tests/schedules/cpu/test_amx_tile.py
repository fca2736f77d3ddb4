"""Tiles of AMX: where they are offered, and that they are exact.

Processors without AMX run them by :file:`amx_emulator.c`.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
import tvm
from test_dot_product_tile import extreme, kernels, run
from torch import nn

from tvm_eff import schedules, targets
from tvm_eff.codegen import toolchain
from tvm_eff.codegen.compile import compile_kernel
from tvm_eff.schedules import Candidate, analysis
from tvm_eff.schedules.cpu import amx
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.checker import kernel_inputs

HERE = Path(__file__).parent
RULE = "amx_tile"
HOST = targets.load("host")


def with_tiles(target: Target) -> Target:
    features = (*target.tvm["mattr"], "+amx-tile", "+amx-int8")
    return replace(target, tvm=MappingProxyType({**target.tvm, "mattr": features}))


AMX = with_tiles(HOST)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("emulator") / "amx_emulator.so"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-ldl"]
    toolchain.compile_shared(
        [HERE / "amx_emulator.c"], library, HOST.toolchain.zig_triple, flags=flags
    )
    return library


@pytest.fixture
def tiles(emulator: Path) -> Iterator[None]:
    """Let this process run tiles, by itself where its processor has none."""
    library = ctypes.CDLL(str(emulator))
    assert library.amx_emulator_install() == 0
    yield
    assert library.amx_emulator_remove() == 0


def offered(task: Task, target: Target = AMX) -> list[Candidate]:
    return [each for each in schedules.candidates(task.func, target) if each.rule == RULE]


def wrong(task: Task, candidate: Candidate) -> list[str]:
    """Return which of random and extreme inputs give other sums than the unscheduled kernel."""
    inputs = kernel_inputs(task.inputs)
    cases = {
        "random": inputs,
        "smallest": extreme(inputs, 255, -127),
        "largest": extreme(inputs, 255, 127),
    }
    module = tvm.IRModule({"main": task.func.with_attr("global_symbol", "main")})
    plain = tvm.tirx.build(module, target="llvm")
    built = compile_kernel(schedules.apply(task.func, candidate, AMX), AMX)
    text = built.inspect_source("s")
    # One configuration for each iteration of the parallel loop, and no call while it holds.
    assert all(word in text for word in ("ldtilecfg", "tdpbusd", "tilerelease", "syscall"))
    packed = schedules.packings(task.func, candidate)
    return [
        name
        for name, case in cases.items()
        if not np.array_equal(
            run(built, task, schedules.pack_inputs(packed, case)), run(plain, task, case)
        )
    ]


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pointwise": (lambda: nn.Conv2d(128, 96, 1), (1, 128, 14, 14)),
    "3x3": (lambda: nn.Conv2d(64, 32, 3, padding=1), (1, 64, 14, 14)),
    "strided": (lambda: nn.Conv2d(32, 48, 3, 2, 1), (1, 32, 28, 28)),
    "strided_pointwise": (lambda: nn.Conv2d(48, 32, 1, 2), (2, 48, 14, 14)),
    "dilated": (lambda: nn.Conv2d(16, 32, 3, padding=2, dilation=2), (1, 16, 13, 13)),
    "rows_of_five": (lambda: nn.Conv2d(16, 64, 1), (1, 16, 55, 55)),
    "few_rows": (lambda: nn.Conv2d(256, 64, 1), (1, 256, 7, 7)),
    "1x7": (lambda: nn.Conv2d(64, 32, (1, 7), padding=(0, 3)), (1, 64, 6, 16)),
    "tokens": (lambda: nn.Linear(64, 48), (1, 12, 64)),
    "batch": (lambda: nn.Conv2d(20, 16, 3), (3, 20, 10, 10)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_candidates_are_exact(name: str, tiles: None) -> None:
    model, shape = LAYERS[name]
    (task,) = kernels(model(), shape)
    found = offered(task)
    assert found
    assert {str(each): wrong(task, each) for each in found} == {str(each): [] for each in found}


def test_epilogues(tiles: None) -> None:
    """A residual connection is added, and limits apply, where the sums were stored."""

    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.one(x))
            return torch.nn.functional.relu6(self.other(y) + y)

    found = kernels(Added(), (1, 32, 12, 12))
    assert len(found) == 2
    for task in found:
        assert [wrong(task, each) for each in offered(task)[:2]] == [[], []]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Conv2d(64, 32, 1), (1, 64, 17, 17)),
        (nn.Conv2d(64, 24, 1), (1, 64, 14, 14)),
        (nn.Conv2d(64, 32, 3, groups=2), (1, 64, 16, 16)),
        (nn.Conv2d(32, 32, 3, groups=32), (1, 32, 16, 16)),
        (nn.Linear(64, 32), (1, 64)),
    ],
    ids=["prime_width", "channels", "groups", "depthwise", "one_row"],
)
def test_where_tiles_do_not_fit(model: nn.Module, shape: tuple[int, ...]) -> None:
    (task,) = kernels(model, shape)
    assert schedules.candidates(task.func, AMX)
    assert offered(task) == []


def test_processors_without_tiles() -> None:
    """LLVM would end the process."""
    (task,) = kernels(nn.Conv2d(64, 32, 1), (1, 64, 14, 14))
    assert offered(task)
    bare = tuple(each for each in HOST.tvm["mattr"] if "amx" not in each)
    without = replace(HOST, tvm=MappingProxyType({**HOST.tvm, "mattr": bare}))
    assert offered(task, without) == []
    assert offered(task, targets.load("rasp5")) == []


def test_registers() -> None:
    """The products are of tiles whose shapes fit, and there are eight registers."""
    (task,) = kernels(nn.Conv2d(128, 96, 1), (1, 128, 28, 28))
    shapes = set()
    for each in offered(task):
        found = amx.Tiles(each["rows"], each["depth"], each["positions"], each["columns"] // 16)
        assert found.registers <= amx.REGISTERS
        shapes.add((found.positions, found.channels))
    assert shapes >= {(1, 1), (1, 3), (2, 2), (2, 1)}
    configuration = amx.Tiles(14, 48, 1, 2).configuration()
    assert len(configuration) == 64
    assert (configuration[0], configuration[16:26:2]) == (1, [64, 64, 48, 64, 64])
    assert configuration[48:56] == [14, 14, 14, 12, 12, 0, 0, 0]


def test_trace_replays() -> None:
    (task,) = kernels(nn.Conv2d(64, 32, 3, padding=1), (1, 64, 14, 14))
    candidate = offered(task)[0]
    sch = schedules.apply(task.func, candidate, AMX)
    again = analysis.schedule(task.func)
    sch.trace.apply_to_schedule(again, remove_postproc=False)
    tvm.ir.assert_structural_equal(again.mod, sch.mod)


NETWORK = """
import sys
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import nn

import tvm_eff
from tvm_eff import driver, targets
from tvm_eff.deploy import machine
from tvm_eff.schedules import registry
from tvm_eff.schedules.cpu.amx_tile import AmxTile


def main():
    # The library would ask CPUID for what it declares, and all that it uses must be declared.
    driver.require_declared = lambda *declared: None
    needed = machine.needed_features
    machine.needed_features = lambda target: [n for n in needed(target) if "amx" not in n]
    registry.RULES, registry.EXTRA_RULES = (AmxTile(), *registry.RULES), ()
    host = targets.load("host")
    features = (*host.tvm["mattr"], "+amx-tile", "+amx-int8")
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(64, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 16),
    )
    made = tvm_eff.compile(
        network.eval(), (torch.rand(1, 3, 28, 28),), dtype="int8", measure=False, proof=False,
        target=replace(host, tvm=MappingProxyType({**host.tvm, "mattr": features})),
        logs=sys.argv[1] + "/logs", output=sys.argv[1] + "/dist",
    )
    print("error", made.error, made.check())
    print("instructions", made.inspect().instruction_sets)


if __name__ == "__main__":
    main()
"""


def test_a_network(emulator: Path, tmp_path: Path) -> None:
    """Linux is asked for the tiles in every process that uses them: the emulator insists."""
    script = tmp_path / "network.py"
    script.write_text(NETWORK)
    done = subprocess.run(
        [sys.executable, script, tmp_path],
        env={**os.environ, "LD_PRELOAD": str(emulator)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "amx_emulator" not in done.stderr
    assert "error 0.0 0.0" in done.stdout
    assert "'amx_int8': " in done.stdout

"""The machine code of kernels stays as it is, or a version says that it is new.

Records say which code was measured: :mod:`tvm_eff.tune.records.generation`. Rewrite the file
of hashes, once a version is raised, with

    python tests/tune/records/test_generation.py
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tvm_eff import frontend, passes, schedules, targets, tune
from tvm_eff.codegen.compile import compile_kernel
from tvm_eff.codegen.opencl_source import source_of
from tvm_eff.passes import RelaxNetwork
from tvm_eff.schedules import Candidate, gpu, registry
from tvm_eff.targets import Target
from tvm_eff.tune import Task
from tvm_eff.tune.records.generation import PASSES_VERSION, generation_of

FILE = Path(__file__).with_name("code_of_kernels.json")
REWRITE = "python tests/tune/records/test_generation.py"
TARGETS = ("rasp4", "rasp3-armv7", "rk3399-mali", "x86-64-v4", "rasp5")

HALF_RULES = {
    "rasp5": ("half_tile", "winograd_half", "depthwise", "depthwise_in_place", "first_layer")
}
"""Targets whose networks are in float16 here, and the rules that schedule that otherwise."""

# Nothing of it is found out here, so that its code is the same on every machine.
X86 = """
name = "x86-64-v4"
description = "Any x86-64 processor with AVX-512 VNNI and AMX"

[tvm]
kind = "llvm"
mtriple = "x86_64-linux-gnu"
mcpu = "x86-64-v4"
mattr = ["+avx512vnni", "+amx-tile", "+amx-int8", "-prefer-256-bit"]

[hardware]
vector_bytes = 64
vector_registers = 32
fma_per_cycle = 2
issue_width = 4
clock_ghz = 2.0
cores = 2
l1d_kib = 32
l2_kib = 1024

[toolchain]
triple = "x86_64-linux-gnu"
glibc = "2.31"

[rpc]
key = "x86-64-v4"
port = 9090
"""


def depthwise(channels: int, kernel: tuple[int, int]) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels)


class Bytes(nn.Module):
    """A convolution of bytes, as a quantized program has it."""

    def __init__(self, depth: int, groups: int = 1, activations: torch.dtype = torch.uint8) -> None:
        super().__init__()
        self.groups, self.activations = groups, activations
        weight = torch.arange(32 * depth * 9) % 255 - 127
        self.register_buffer("weight", weight.to(torch.int8).reshape(32, depth, 3, 3))
        self.register_buffer("scales", torch.full((32,), 2.0**-8))
        self.register_buffer("zeros", torch.zeros(32, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        operators = torch.ops.quantized_decomposed
        limits = torch.iinfo(self.activations)
        data = (0.25, 0, limits.min, limits.max, self.activations)
        held = operators.quantize_per_tensor(x, *data)
        channels = (self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        weight = operators.dequantize_per_channel(*channels)
        numbers = operators.dequantize_per_tensor(held, *data)
        y = nn.functional.conv2d(numbers, weight, padding=1, groups=self.groups)
        return operators.dequantize_per_tensor(operators.quantize_per_tensor(y, *data), *data)


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "convolution": (nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()), (1, 16, 8, 8)),
    "first layer": (nn.Conv2d(3, 16, 3, stride=2, padding=1), (1, 3, 17, 17)),
    "pointwise": (nn.Sequential(nn.Conv2d(32, 32, 1), nn.ReLU6()), (1, 32, 7, 7)),
    "wide pointwise": (nn.Conv2d(256, 256, 1), (1, 256, 8, 8)),
    "depthwise": (nn.Sequential(depthwise(32, (3, 3)), nn.ReLU6()), (1, 32, 14, 14)),
    "separable": (nn.Sequential(depthwise(32, (5, 1)), depthwise(32, (1, 5))), (1, 32, 12, 14)),
    "mobilenet": (
        nn.Sequential(depthwise(32, (3, 3)), nn.ReLU6(), nn.Conv2d(32, 64, 1), nn.ReLU6()),
        (1, 32, 14, 14),
    ),
    "pooling": (nn.MaxPool2d(3, 2), (1, 16, 9, 9)),
    "elementwise": (nn.Sigmoid(), (1, 16, 5)),
    "softmax": (nn.Softmax(1), (4, 40)),
    "bytes": (Bytes(16), (1, 16, 8, 8)),
    "bytes, depthwise": (Bytes(1, groups=32), (1, 32, 8, 8)),
    "bytes with a sign": (Bytes(16, activations=torch.int8), (1, 16, 8, 8)),
}
"""For each rule there is a kernel that it schedules on some target."""


@dataclass(frozen=True)
class Code:
    """The code of one kernel with one schedule.

    Attributes
    ----------
    network, workload
        The kernel: of which network, and a hash of its function.
    decisions
        Those of the schedule.
    made_by
        The versions of TVM, LLVM, our passes and the schedule rule.
    sha256
        The first digits of the hash of the object file, or of the OpenCL C.
    """

    network: str
    workload: str
    decisions: dict[str, int]
    made_by: dict[str, Any]
    sha256: str


def target_of(name: str, folder: Path) -> Target:
    if name != "x86-64-v4":
        return targets.load(name)
    file = folder / "x86-64-v4.toml"
    file.write_text(X86, encoding="utf-8")
    return targets.load(file)


@lru_cache
def imported(network: str) -> RelaxNetwork:
    model, shape = NETWORKS[network]
    return frontend.import_model(model.eval(), [torch.zeros(shape)])


def _lowered(network: str, target: Target) -> RelaxNetwork:
    dtype = "float16" if target.name in HALF_RULES else "float32"
    return passes.lower(imported(network), target, dtype)


def one_of_each_rule(target: Target) -> Iterator[tuple[str, Task, Candidate]]:
    """Yield the first kernel that each rule schedules, and its most promising schedule there."""
    seen: set[str] = set()
    rules = HALF_RULES.get(target.name)
    for network in NETWORKS:
        if rules is not None and seen.issuperset(rules):
            return
        if network.startswith("bytes") and target.gpu is not None:
            continue
        for task in tune.extract(_lowered(network, target).mod):
            for candidate in [
                schedules.UNSCHEDULED,
                *schedules.candidates(task.func, target),
            ]:
                if candidate.rule not in seen and (rules is None or candidate.rule in rules):
                    seen.add(candidate.rule)
                    yield network, task, candidate


def sha256(task: Task, candidate: Candidate, target: Target, folder: Path) -> str:
    built = compile_kernel(schedules.apply(task.func, candidate, target), target)
    if target.gpu is not None:
        code = source_of(built).encode()
    else:
        file = folder / "kernel.o"
        built.write_to_file(str(file), "o")
        code = file.read_bytes()
    assert code
    return hashlib.sha256(code).hexdigest()[:16]


def made_by(candidate: Candidate, target: Target) -> dict[str, Any]:
    known = generation_of(candidate, target)
    rule = schedules.rule_version(candidate)
    return {
        "tvm": known.tvm,
        "llvm": known.llvm,
        "passes": known.passes,
        "passes_version": PASSES_VERSION,
        "rule": rule,
    }


def codes(name: str, folder: Path, before: dict[str, Code]) -> dict[str, Code]:
    """Return the code of each rule for a target: of the schedules that it had before, if known."""
    target = target_of(name, folder)
    found = {}
    for network, task, first in one_of_each_rule(target):
        old = before.get(first.rule)
        same_kernel = old is not None and old.workload == task.workload
        candidate = Candidate.of(first.rule, old.decisions) if old and same_kernel else first
        found[first.rule] = Code(
            network,
            task.workload,
            candidate.as_dict(),
            made_by(candidate, target),
            sha256(task, candidate, target, folder),
        )
    return found


def on_file() -> dict[str, dict[str, Code]]:
    if not FILE.exists():
        return {}
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        target: {rule: Code(**code) for rule, code in rules.items()}
        for target, rules in stored.items()
    }


def unexplained(before: dict[str, Code], now: dict[str, Code]) -> list[str]:
    """Return what is to be done where the code of a kernel is new and no version is."""
    return [
        f"{rule} makes other code of {now[rule].network}: raise PASSES_VERSION in "
        f"tvm_eff/tune/records/generation.py, or `version` of the rule if it alone changed; "
        f"then run {REWRITE}"
        for rule in sorted(before.keys() & now.keys())
        if before[rule].sha256 != now[rule].sha256
        and replace(before[rule], sha256=now[rule].sha256) == now[rule]
    ]


def outdated(before: dict[str, Code], now: dict[str, Code]) -> list[str]:
    """Return what is to be done where the file is of other kernels or versions."""
    return [
        f"{rule} is not what {FILE.name} says: run {REWRITE}"
        for rule in sorted(before.keys() | now.keys())
        if before.get(rule) != now.get(rule)
    ]


@pytest.mark.parametrize("name", TARGETS)
def test_code_is_new_only_if_a_version_is(name: str, tmp_path: Path) -> None:
    before = on_file()[name]
    now = codes(name, tmp_path, before)
    assert unexplained(before, now) == []
    assert outdated(before, now) == []


def test_each_rule_is_among_them() -> None:
    processor = (*registry.RULES, *registry.EXTRA_RULES, *registry.EXTRA_RULES_IN_HALF)
    rules = (*processor, *gpu.RULES, *gpu.EXTRA_RULES)
    names = {schedules.UNSCHEDULED.rule, *(rule.name for rule in rules)}
    assert {rule for found in on_file().values() for rule in found} == names


def test_what_is_to_be_done() -> None:
    before = on_file()["rasp4"]
    old = before["pooling"]
    other_code = {**before, "pooling": replace(old, sha256="0123")}
    assert unexplained(before, before) == outdated(before, before) == []
    (told,) = unexplained(before, other_code)
    assert told.startswith("pooling makes other code of pooling: raise PASSES_VERSION in tvm_eff/")

    raised = {**old.made_by, "rule": old.made_by["rule"] + 1}
    explained = {**before, "pooling": replace(old, sha256="0123", made_by=raised)}
    assert unexplained(before, explained) == []
    (told,) = outdated(before, explained)
    assert told == f"pooling is not what code_of_kernels.json says: run {REWRITE}"
    del explained["pooling"]
    assert outdated(before, explained) == [told]


def main() -> int:
    """Write the file, unless code is new and no version is."""
    before, now, wrong = on_file(), {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in TARGETS:
            now[name] = codes(name, Path(folder), before.get(name, {}))
            wrong += [f"{name}: {each}" for each in unexplained(before.get(name, {}), now[name])]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    text = {t: {rule: asdict(code) for rule, code in found.items()} for t, found in now.items()}
    FILE.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

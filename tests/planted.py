"""A small network's bundle with something wrong in it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import tvm
from torch import nn
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from tvm_eff import frontend, models, passes, schedules, targets, tune
from tvm_eff.deploy import bundle, bundle_writer
from tvm_eff.deploy.bisect.packed import packed_constants
from tvm_eff.deploy.bundle import Bundle, Golden, Validation
from tvm_eff.deploy.library import build_library, kernel_schedules
from tvm_eff.deploy.manifest import Runtime
from tvm_eff.deploy.native.library import build_native_library
from tvm_eff.models import Program
from tvm_eff.passes import RelaxNetwork, pipeline
from tvm_eff.schedules import Candidate, Packing
from tvm_eff.schedules.cpu.convolution import RegisterTile
from tvm_eff.targets import Target
from tvm_eff.tensors import random_inputs

MODEL = f"{__file__}:Net"
SHAPE = (1, 3, 12, 12)


class Net(nn.Module):
    """Two branches that are concatenated, and layers before and behind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.squeeze = nn.Conv2d(16, 32, 1)
        self.left = nn.Conv2d(32, 16, 1)
        self.right = nn.Conv2d(32, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of ten classes."""
        x = torch.relu(self.first(x))
        x = self.pool(torch.relu(self.squeeze(x)))
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        return self.last(x.mean((2, 3)))


class SumsIntegers:
    """A schedule rule whose sums are kept as integers: each addition loses what is behind."""

    name = "sums_integers"

    def candidates(self, func: PrimFunc, target: Target) -> list[Candidate]:
        """Return none: it is chosen by name."""
        return []

    def packings(self, func: PrimFunc, candidate: Candidate) -> list[Packing]:
        """Return the weight's layout."""
        return RegisterTile().packings(func, candidate)

    def apply(self, sch: Schedule, candidate: Candidate, target: Target) -> None:
        """Schedule ``main`` as a register tile, with sums of another dtype."""
        RegisterTile().apply(sch, candidate, target)
        sch.unsafe_set_dtype(sch.get_sblock("conv2d_nhwc_update"), 0, "int32")


def dropping(operator: str, number: int) -> tvm.transform.Pass:
    """Return a pass that puts the first argument of one call in the place of the call."""

    @mutator
    class Dropper(PyExprMutator):
        met = 0

        def visit_call_(self, call: relax.Call) -> relax.Expr:
            if getattr(call.op, "name", "") != operator:
                return call
            self.met += 1
            return call.args[0] if self.met == number + 1 else call

    def run(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        dropper = Dropper(mod)
        mod = mod.clone()
        mod["main"] = dropper.visit_expr(mod["main"])
        return relax.transform.CanonicalizeBindings()(mod)

    return tvm.ir.transform.module_pass(run, opt_level=0, name="Dropping")


def canonicalize_and(extra: tvm.transform.Pass) -> Callable[[], pipeline.Passes]:
    """Return a phase of the pipeline with one more pass in front."""
    own = pipeline.canonicalize
    return lambda: [extra, *own()]


def fuse_without(name: str) -> Callable[[Target], pipeline.Passes]:
    """Return a phase of the pipeline without one of its passes."""
    own = pipeline.fuse
    return lambda target: [each for each in own(target) if each.info.name != name]


@lru_cache(maxsize=1)
def _program() -> Program:
    return models.trace(models.load(MODEL, input_shapes=[SHAPE]))


@lru_cache(maxsize=1)
def _imported() -> RelaxNetwork:
    return frontend.import_program(_program())


def lowered(target: str = "host") -> RelaxNetwork:
    # Not kept: tests change the passes.
    return passes.lower(_imported(), targets.load(target))


def summing_integers(target: str = "host") -> dict[str, Candidate]:
    """Return a wrong schedule of the second convolution, by its kernel's name."""
    network, made_for = lowered(target), targets.load(target)
    (name,) = (each.name for each in tune.extract(network.mod) if "conv2d1_" in each.name)
    tiles = schedules.candidates(network.mod[name], made_for)
    right = next(each for each in tiles if each.rule == RegisterTile.name)
    return {name: Candidate.of(SumsIntegers.name, right.as_dict())}


def winograd(target: str = "host") -> dict[str, Candidate]:
    """Return a schedule whose weights are larger than the model's, of one kernel by its name."""
    network, made_for = lowered(target), targets.load(target)
    for each in tune.extract(network.mod):
        for candidate in schedules.candidates(network.mod[each.name], made_for):
            if candidate.rule == "winograd":
                return {each.name: candidate}
    raise AssertionError("no kernel has such a schedule")


def best(network: RelaxNetwork, target: str = "host") -> dict[str, Candidate]:
    """Return each kernel's most promising candidate, by the kernel's name."""
    return {
        each.name: schedules.candidates(each.func, targets.load(target))[0]
        for each in tune.extract(network.mod)
    }


def write(
    folder: Path,
    target: str = "host",
    chosen: Mapping[str, Candidate] | None = None,
    runtime: Runtime = "native",
    at_load: bool = False,
) -> Bundle:
    """Build a bundle whose kernels are scheduled by their best candidates, or by `chosen`."""
    network, made_for = lowered(target), targets.load(target)
    candidates = {**best(network, target), **(chosen or {})}
    winners = {each.workload: candidates[each.name] for each in tune.extract(network.mod)}
    library = folder.with_suffix(".so")
    program = _program()
    plan = None
    if runtime == "native":
        plan = build_native_library(program, network, winners, made_for, library, at_load=at_load)
    else:
        build_library(network, winners, made_for, library)
    inputs = random_inputs(program.network.inputs, 1)
    return bundle_writer.write(
        folder,
        library,
        model="Net",
        target=made_for,
        golden=Golden({"x": inputs[0]}, {"output": program.run(inputs)[0]}),
        validation=Validation(1e-5, 2e-7, 1, "a test"),
        kernels=kernel_schedules(network, winners),
        plan=plan,
    )


def corrupted(made: Bundle, folder: Path, call: int, argument: int) -> Bundle:
    """Return a copy with another value in a packed weight, of which its manifest knows."""
    shutil.copytree(made.folder, folder)
    read = bundle.read(folder)
    made_for = targets.load(read.manifest.target.name)
    network = lowered(made_for.name)
    constants = packed_constants(network, read.manifest.kernels, made_for)
    assert constants is not None
    change_library(folder, constants[call][argument], 3.0)
    return bundle.read(folder)


def weight_of(kernel: str) -> np.ndarray:
    """Return the weight that a kernel takes, before it is packed."""
    network = lowered()
    for block in network.mod["main"].body.blocks:
        for binding in block.bindings:
            call = binding.value
            if isinstance(call, relax.Call) and call.args[0].name_hint == kernel:
                names = [each.name for each in network.mod["main"].params]
                place = names.index(call.args[1].fields[1].name)
                return network.params[place - 1]
    raise AssertionError(f"{kernel} is not called")


def change_library(folder: Path, weight: np.ndarray, value: float) -> None:
    """Put a value into the middle of a weight in a library, of which the manifest knows."""
    library, manifest = folder / bundle.LIBRARY, folder / bundle.MANIFEST
    content = bytearray(library.read_bytes())
    start = content.find(weight.tobytes())
    assert start > 0
    middle = start + weight.itemsize * (weight.size // 2)
    content[middle : middle + 4] = np.float32(value).tobytes()
    library.write_bytes(content)
    data = json.loads(manifest.read_text())
    data["files"][bundle.LIBRARY] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(data))

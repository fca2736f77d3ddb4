"""Tuning tasks: the distinct kernels of a network, and how often it calls each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.s_tir import meta_schedule as ms

from tvm_eff.passes.attributes import ASSEMBLES_SLICES
from tvm_eff.schedules import analysis
from tvm_eff.tensors import TensorSpec


@dataclass(frozen=True)
class Task:
    """One kernel to schedule.

    Attributes
    ----------
    name
        The kernel's name in the module.
    func
        The PrimFunc, inputs first, then outputs.
    calls
        How often the network calls it, or a kernel equal to it.
    """

    name: str
    func: tirx.PrimFunc = field(repr=False)
    calls: int = 1

    @cached_property
    def label(self) -> str:
        """What the kernel computes, for people: ``conv 3x3, 64 -> 256, 13x13``."""
        shape = "x".join(str(n) for n in self.outputs[0].shape[1:])
        works = analysis.contractions(self.func)
        if not works:
            # TVM numbers the kernels of one kind.
            return f"{self.name.removeprefix('fused_').rstrip('0123456789')}, {shape}"
        first, last = works[0], works[-1]
        if len(last.reduction) == 1:
            return f"dense, {last.depth} -> {last.channels}"
        kinds = " + ".join(map(_kind, works))
        places = "x".join(str(last.extents[axis]) for axis in last.positions[1:])
        return f"{kinds}, {first.depth * first.groups} -> {last.channels}, {places}"

    @cached_property
    def module(self) -> tvm.IRModule:
        """The function alone, as MetaSchedule keys its records."""
        return tvm.IRModule({"main": self.func.with_attr("global_symbol", "main")})

    @cached_property
    def workload(self) -> str:
        """The structural hash that names the workload in records."""
        return str(ms.database.Workload(self.module).as_json()[0])

    @cached_property
    def parameters(self) -> tuple[TensorSpec, ...]:
        """Shape and dtype of every parameter."""
        return tuple(
            TensorSpec(tuple(int(n) for n in p.shape), str(p.dtype)) for p in self.func.params
        )

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The parameters the function writes: the last ones."""
        return self.parameters[len(self.parameters) - self._output_count :]

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The parameters the function only reads."""
        return self.parameters[: len(self.parameters) - self._output_count]

    @cached_property
    def operations(self) -> int:
        """A measure of the work in one call: iterations of all blocks together."""
        sch = analysis.inspect(self.func)
        return sum(
            int(np.prod([int(v.dom.extent) for v in sch.get(block).iter_vars], initial=1))
            for block in analysis.blocks(sch)
        )

    @property
    def _output_count(self) -> int:
        sch = analysis.inspect(self.func)
        written = [w.source for block in analysis.blocks(sch) for w in sch.get(block).writes]
        return sum(any(p.same_as(w) for w in written) for p in self.func.params)


def _kind(work: analysis.Contraction) -> str:
    kernel = "x".join(str(work.extents[axis]) for axis in work.reduction[:-1])
    return f"{'depthwise' if work.depthwise else 'conv'} {kernel}"


def kernels(mod: tvm.IRModule) -> dict[str, Task]:
    """Return the kernels that ``main`` of `mod` calls, by their names.

    Kernels with dynamic shapes are left out: they cannot be measured. So are those that
    only put a concatenation together: no library has them.
    """
    calls: Counter[str] = Counter()

    def visit(node: object) -> None:
        if isinstance(node, relax.Call) and node.op.same_as(tvm.ir.Op.get("relax.call_tir")):
            calls[str(node.args[0].name_hint)] += 1

    relax.analysis.post_order_visit(mod["main"], visit)
    return {
        name: Task(name, mod[name], count)
        for name, count in calls.items()
        if _is_static(mod[name]) and ASSEMBLES_SLICES not in (mod[name].attrs or {})
    }


def extract(mod: tvm.IRModule) -> list[Task]:
    """Return the distinct kernels among :func:`kernels`, the most work first."""
    found: dict[str, Task] = {}
    for task in kernels(mod).values():
        seen = found.get(task.workload)
        found[task.workload] = replace(seen, calls=seen.calls + task.calls) if seen else task
    return sorted(found.values(), key=lambda task: -task.operations * task.calls)


def _is_static(func: tirx.PrimFunc) -> bool:
    return all(isinstance(n, tirx.IntImm) for p in func.params for n in p.shape)

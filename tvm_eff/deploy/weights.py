"""Which weights a library holds: whose they are in PyTorch, and how large they became."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_eff.deploy.manifest import WeightInfo
from tvm_eff.passes import RelaxNetwork, pipeline


def weight_table(network: RelaxNetwork, scheduled: tvm.IRModule) -> tuple[WeightInfo, ...]:
    """Return the constants that the kernels of a network read, in the order in which they do.

    Parameters
    ----------
    network
        It, lowered.
    scheduled
        Its module with scheduled kernels, some of which take their weight transformed.
    """
    with pipeline.not_dumping():
        lifted = pipeline.lift_weights(scheduled)
    sources = pipeline.names_of_sources(network, lifted)
    main = lifted["main"]
    packed = dict(zip(main.params[len(main.params) - len(sources) :], sources, strict=True))
    lowered = {str(each.name_hint) for each in network.mod.get_global_vars()}
    left = dict(network.source_bytes)
    seen: list[Any] = []
    found = []
    for called, place, argument in _arguments(main):
        constant = isinstance(argument, tvm.ir.expr.GenericConst)
        if not (constant or argument in packed) or any(argument.same_as(each) for each in seen):
            continue
        seen.append(argument)
        shape = _shape(argument.ty)
        names = () if constant else packed[argument]
        kernel = _base(called, lowered)
        before = network.mod[kernel].params[place] if called != kernel else argument.ty
        transformed = math.prod(shape) != math.prod(_shape(before))
        found.append(
            WeightInfo(
                parameters=names,
                kernel=kernel,
                shape=shape,
                dtype=str(argument.ty.dtype),
                bytes=_bytes(argument.ty),
                # A quantized weight is of no parameter.
                model_bytes=sum(left.pop(name, 0) for name in names) if names else _bytes(before),
                algorithm=_algorithm(called, kernel) if transformed else "",
            )
        )
    return tuple(found)


def modules_of(weights: Iterable[WeightInfo]) -> dict[str, tuple[str, ...]]:
    """Return PyTorch's modules whose parameters kernels take, by the kernels' names as lowered."""
    found: dict[str, dict[str, None]] = {}
    for each in weights:
        modules = (name.rpartition(".")[0] for name in each.parameters)
        found.setdefault(each.kernel, {}).update(dict.fromkeys(filter(None, modules)))
    return {kernel: tuple(modules) for kernel, modules in found.items()}


def _arguments(main: relax.Function) -> Iterator[tuple[str, int, Any]]:
    """What each call of a kernel takes, with the kernel's name and the argument's place."""
    for block in main.body.blocks:
        for binding in block.bindings:
            call = binding.value
            if not isinstance(call, relax.Call) or not isinstance(call.args[0], tvm.ir.GlobalVar):
                continue
            for place, argument in enumerate(call.args[1].fields):
                yield str(call.args[0].name_hint), place, argument


def _shape(tensor: Any) -> tuple[int, ...]:
    """The shape of a buffer or of a type of Relax."""
    return tuple(int(each) for each in getattr(tensor.shape, "values", tensor.shape))


def _bytes(tensor: Any) -> int:
    return math.prod(_shape(tensor)) * np.dtype(str(tensor.dtype)).itemsize


def _base(called: str, lowered: Collection[str]) -> str:
    """The kernel's name before another function took its place."""
    bases = (each for each in lowered if called == each or called.startswith(f"{each}_"))
    return max(bases, key=len, default=called)


def _algorithm(called: str, kernel: str) -> str:
    # TVM's pass that splits the packing off adds a word of its own.
    return called.removeprefix(f"{kernel}_").removesuffix("_prepacked")

"""Post-training quantization by PyTorch's PT2E flow: observe, convert, and say what it costs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from tvm_eff.errors import ModelError, SetupError, UsageError
from tvm_eff.frontend.quantized import is_quantized
from tvm_eff.models import Network, Program, Sample
from tvm_eff.models.program import first_line, quiet
from tvm_eff.quantize.bias import round_biases
from tvm_eff.quantize.loss import Loss, loss_of
from tvm_eff.quantize.observed import (
    Observed,
    described,
    is_observer,
    round_to_half,
    without_others,
)
from tvm_eff.tensors import random_inputs

Activations = Literal["int8", "uint8"]
"""What activations may be stored as."""

RANDOM_SAMPLES = 8
"""Random inputs that ranges are taken from if there is no data."""

_COMPARED = 64
"""Samples, at most, that the quantized network is compared with float32 on."""


@dataclass(frozen=True)
class Quantized:
    """A quantized network.

    Attributes
    ----------
    program
        It, with quantized and dequantized values at the bounds of what integers compute, and
        values rounded to float16 before what is computed in it.
    in_float32
        What stays in float32: the operators with their modules.
    source
        What the data is called; None for random inputs, on which its accuracy says nothing.
    samples
        How many samples the ranges were taken from.
    loss
        How far it is from float32 on them.
    integers
        Whether anything is computed in integers.
    """

    program: Program
    in_float32: tuple[str, ...]
    source: str | None
    samples: int
    loss: Loss
    integers: bool = True


def quantize(
    program: Program,
    samples: Iterable[Sample] | None,
    source: str | None,
    activations: Activations,
    done: Callable[[int], None] = lambda count: None,
) -> Quantized:
    """Quantize a network: batch norm is folded, weights and activations become 8 bits.

    Parameters
    ----------
    program
        The network in float32.
    samples
        Data to take the activations' ranges from; random inputs if None.
    source
        What the data is called.
    activations
        What activations are stored as: ``uint8`` where the processor multiplies it by int8,
        or ``int8``.
    done
        Told how many samples are done.

    Raises
    ------
    UsageError
        A sample holds NaN or infinity, all values of all samples are one, or all labels are.
    ModelError
        The network is quantized already, has nothing that could be, or PT2E fails on it.
    SetupError
        torchao is not installed.
    """
    return convert(observe(program, samples, source, activations, done))


def observe(
    program: Program,
    samples: Iterable[Sample] | None,
    source: str | None,
    activations: Activations,
    done: Callable[[int], None] = lambda count: None,
    keep: int = _COMPARED,
) -> Observed:
    """Find the ranges of a network's activations; parameters and errors are :func:`quantize`'s.

    Parameters
    ----------
    program, samples, source, activations, done
        As there.
    keep
        How many of the samples are kept to compare on.
    """
    _require_float32(program)
    pt2e, quantizer = _flow(activations)
    given = _random(program) if samples is None else samples
    kept: list[Sample] = []
    with quiet():
        prepared = _attempt(lambda: pt2e.prepare_pt2e(_module(program), quantizer))
    if not any(map(is_observer, prepared.modules())):
        raise ModelError(
            f"{program.network.name} has no operator that is computed in integers; leave --dtype "
            "out"
        )
    count = 0
    for count, sample in enumerate(_checked(given, program), 1):
        _observe(prepared, program, sample)
        kept = kept if len(kept) == keep else [*kept, sample]
        done(count)
    float32 = tuple(quantizer.in_float32)
    return Observed(program, prepared, float32, tuple(kept), source, count)


def convert(
    observed: Observed, layers: Set[str] | None = None, halves: Set[str] = frozenset()
) -> Quantized:
    """Return a network in integers, whose ranges are known.

    Parameters
    ----------
    observed
        The network; it stays as it is.
    layers
        The names of the layers' nodes that integers compute; all if None.
    halves
        Those of the ones that are computed in float16.

    Raises
    ------
    ModelError
        PT2E fails on it.
    """
    program = observed.program
    with quiet():
        prepared = copy.deepcopy(observed.prepared)
    in_float32 = list(observed.in_float32)
    if layers is not None:
        without_others(prepared, layers)
        in_float32 += [each for each in observed.layers if each.name not in {*layers, *halves}]
    listed = tuple(dict.fromkeys(map(described, in_float32)))
    compared = [each.inputs for each in observed.samples[:_COMPARED]]
    if layers is not None and not layers and not halves:
        loss = loss_of(program, program, compared)
        return Quantized(program, listed, observed.source, observed.count, loss, integers=False)
    pt2e, _ = _flow("int8")
    with quiet():
        round_to_half(prepared, halves)
        converted = _attempt(lambda: pt2e.convert_pt2e(prepared))
        round_biases(converted)
        _drop_unused(converted)
        exported = _attempt(lambda: _export(converted, program))
    network = Network(program.network.name, exported, program.network.inputs)
    found = replace(program, network=replace(network, state=program.network.state))
    found = replace(found, exported=exported)
    loss = loss_of(program, found, compared)
    integers = layers is None or bool(layers)
    return Quantized(found, listed, observed.source, observed.count, loss, integers)


def _require_float32(program: Program) -> None:
    if is_quantized(program.exported):
        raise ModelError(
            f"{program.network.name} is quantized already: it is compiled as it is; leave --dtype "
            "and --calibrate out"
        )


def _flow(activations: Activations) -> tuple[Any, Any]:
    """PT2E's functions, and our quantizer for it."""
    try:
        with quiet():
            from torchao.quantization.pt2e import quantize_pt2e

            from tvm_eff.quantize.quantizer import IntegerQuantizer
    except ImportError as error:
        raise SetupError(
            f"quantization needs torchao, which cannot be imported ({first_line(error)}); install "
            "it: pip install torchao==0.18.0"
        ) from error
    return quantize_pt2e, IntegerQuantizer(activations)


def _attempt(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:  # of torch and torchao
        raise ModelError(
            f"the model cannot be quantized: {type(error).__name__}: {first_line(error)}; leave "
            "--dtype out, or quantize it elsewhere and give the .pt2 file"
        ) from error


def _module(program: Program) -> GraphModule:
    module: Any = program.exported.module()
    # A copy: folding batch norm writes into the weights, which the network keeps.
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        owner, _, attribute = name.rpartition(".")
        held = module.get_submodule(owner)
        copy = value.detach().clone()
        is_parameter = isinstance(value, torch.nn.Parameter)
        setattr(held, attribute, torch.nn.Parameter(copy, False) if is_parameter else copy)
    assert isinstance(module, GraphModule)
    return module


def _random(program: Program) -> Iterator[Sample]:
    for seed in range(RANDOM_SAMPLES):
        yield Sample(f"random input {seed}", tuple(random_inputs(program.network.inputs, seed)))


def _checked(samples: Iterable[Sample], program: Program) -> Iterator[Sample]:
    """Yield samples, and refuse those that no range can be taken from."""
    least, most = np.inf, -np.inf
    labels: list[int] = []
    for sample in samples:
        labels += [] if sample.label is None else sample.label.tolist()
        for name, array in zip(program.inputs, sample.inputs, strict=True):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                count = int(np.count_nonzero(~np.isfinite(array)))
                raise UsageError(
                    f"{sample.name} cannot calibrate: '{name}' has {count} values that are NaN or "
                    "infinite; leave it out"
                )
            if array.size:
                least = min(least, float(array.min()))
                most = max(most, float(array.max()))
        yield sample
    if least == most:
        raise UsageError(
            f"the calibration data cannot calibrate: every value is {least:g}; give samples like "
            "those that the network will see"
        )
    if len(labels) > 1 and len(set(labels)) == 1:
        raise UsageError(
            f"the calibration data cannot calibrate: all {len(labels)} labels are of one class, "
            f"{labels[0]}; give samples of several classes, or leave the labels out"
        )


def _observe(prepared: GraphModule, program: Program, sample: Sample) -> None:
    arguments, keywords = _arguments(program, sample.inputs)
    try:
        with torch.no_grad(), quiet():
            prepared(*arguments, **keywords)
    except Exception as error:  # whatever operators raise
        raise UsageError(
            f"{sample.name} cannot calibrate: {type(error).__name__}: {first_line(error)}"
        ) from error


def _arguments(program: Program, inputs: Sequence[np.ndarray]) -> tuple[Any, Any]:
    tensors = [torch.from_numpy(np.ascontiguousarray(each).copy()) for each in inputs]
    arguments, keywords = pytree.tree_unflatten(tensors, program.exported.call_spec.in_spec)
    return arguments, keywords


def _drop_unused(converted: GraphModule) -> None:
    """Remove the weights in float32 that integers stand for now: they would be exported again."""
    used = {str(node.target) for node in converted.graph.nodes if node.op == "get_attr"}
    for name, _ in [*converted.named_parameters(), *converted.named_buffers()]:
        if name not in used:
            owner, _, attribute = name.rpartition(".")
            delattr(converted.get_submodule(owner), attribute)


def _export(converted: GraphModule, program: Program) -> torch.export.ExportedProgram:
    arguments, keywords = _arguments(program, random_inputs(program.network.inputs))
    return torch.export.export(converted, arguments, keywords)

"""The models that a Python user gives: modules, programs, names."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from tvm_eff.errors import NoneType, UsageError, require_kind
from tvm_eff.models.network import Network
from tvm_eff.models.preprocessing import Preprocessing, preprocessed
from tvm_eff.models.source import DTYPES, load, of_module, of_program
from tvm_eff.models.state import with_state
from tvm_eff.tensors import TensorSpec

logger = logging.getLogger(__name__)

Tensors = torch.Tensor | np.ndarray | Sequence[torch.Tensor | np.ndarray]
"""One example input, or one for each input."""


def example_arrays(inputs: Tensors | None) -> list[np.ndarray] | None:
    """Return example inputs as arrays.

    Raises
    ------
    UsageError
        One of them is no tensor, or of a dtype that networks do not take.
    """
    if inputs is None:
        return None
    if isinstance(inputs, torch.Tensor | np.ndarray):
        return [_array(0, inputs)]
    if not isinstance(inputs, list | tuple):
        raise UsageError(
            f"the example inputs are a {type(inputs).__name__}; give a tensor, or a list of tensors"
        )
    return [_array(number, each) for number, each in enumerate(inputs)]


def _array(number: int, example: object) -> np.ndarray:
    if not isinstance(example, torch.Tensor | np.ndarray):
        raise UsageError(
            f"example input {number} is a {type(example).__name__}; give tensors or arrays"
        )
    dtype = str(example.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise UsageError(f"example input {number} is of {dtype}; networks take {', '.join(DTYPES)}")
    return example.detach().cpu().numpy() if isinstance(example, torch.Tensor) else example


def network_of(
    model: nn.Module | ExportedProgram | Network | str,
    examples: list[np.ndarray] | None,
    name: str | None,
    *,
    input_shapes: Sequence[Sequence[int]],
    input_dtypes: Sequence[str],
    weights: str | Path | None,
    width: float | None,
    resolution: int | None,
    preprocess: str | Preprocessing | None = None,
    state: bool = False,
) -> Network:
    """Return the network that a user means: a module, a program, or what names one.

    Parameters
    ----------
    model
        A module, with `examples` or `input_shapes`; a program of ``torch.export``; or what
        :func:`load` takes.
    examples
        Example inputs of a module.
    name
        What it is called.
    input_shapes, input_dtypes, weights, width, resolution
        As for :func:`load`: they are the model's own, before any preprocessing.
    preprocess
        How its image is prepared, in words or not; the examples are then what comes before.
    state
        Whether buffers that it writes become inputs and outputs; the examples are without them.

    Raises
    ------
    UsageError
        It is nothing of these, an option is of no use for it, or it takes other inputs than
        the examples.
    ModelError
        As for :func:`load`, :func:`of_module` and :func:`of_program`.
    """
    require_kind("preprocess", preprocess, str, Preprocessing, NoneType)
    preparation = Preprocessing.parse(preprocess) if isinstance(preprocess, str) else preprocess
    taken = [TensorSpec(each.shape, str(each.dtype)) for each in examples or ()]
    if preparation is not None and taken:
        taken[0] = preparation.model_of(taken[0])
    if isinstance(model, str):
        shapes = input_shapes or [each.shape for each in taken]
        dtypes = input_dtypes or [each.dtype for each in taken]
        network = load(
            model,
            input_shapes=shapes,
            input_dtypes=dtypes,
            weights=weights,
            width=width,
            resolution=resolution,
        )
    elif isinstance(model, nn.Module):
        _refuse("a module", width=width, resolution=resolution)
        network = of_module(model, taken, input_shapes, input_dtypes, weights, name)
    elif isinstance(model, torch.export.ExportedProgram | Network):
        _refuse(
            "a model that is traced or described already",
            width=width,
            resolution=resolution,
            weights=weights,
            input_shapes=input_shapes or None,
            input_dtypes=input_dtypes or None,
        )
        network = model if isinstance(model, Network) else of_program(model, name or "program")
    else:
        raise UsageError(
            f"the model is a {type(model).__name__}; give a torch.nn.Module with example inputs, "
            "an ExportedProgram, or the name of a model"
        )
    if preparation is not None:
        network = preprocessed(network, preparation)
    _require_taken(network, examples)
    return with_state(network) if state else network


def _refuse(kind: str, **options: object) -> None:
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} is not for {kind}; leave it out")


def _require_taken(network: Network, examples: list[np.ndarray] | None) -> None:
    given = tuple(TensorSpec(each.shape, str(each.dtype)) for each in examples or ())
    if examples is not None and given != network.inputs:
        raise UsageError(
            f"{network.name} takes {_listed(network.inputs)}; the example inputs are "
            f"{_listed(given) or 'none'}"
        )


def _listed(specs: Sequence[TensorSpec]) -> str:
    return " and ".join(f"{' x '.join(map(str, spec.shape))} {spec.dtype}" for spec in specs)


@contextmanager
def inference_mode(network: Network) -> Iterator[None]:
    """Put a module that is in training mode in inference mode for a while."""
    module = network.module
    if not isinstance(module, nn.Module) or not any(each.training for each in module.modules()):
        yield
        return
    logger.warning("%s is in training mode: it is compiled as in inference mode", network.name)
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for each, training in modes.items():
            each.training = training

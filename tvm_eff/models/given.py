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

from tvm_eff.errors import UsageError
from tvm_eff.models.network import Network
from tvm_eff.models.source import load, of_module, of_program
from tvm_eff.tensors import TensorSpec

logger = logging.getLogger(__name__)

Tensors = torch.Tensor | np.ndarray | Sequence[torch.Tensor | np.ndarray]
"""One example input, or one for each input."""


def example_arrays(inputs: Tensors | None) -> list[np.ndarray] | None:
    """Return example inputs as arrays.

    Raises
    ------
    UsageError
        One of them is no tensor.
    """
    if inputs is None:
        return None
    given = [inputs] if isinstance(inputs, torch.Tensor | np.ndarray) else list(inputs)
    for number, each in enumerate(given):
        if not isinstance(each, torch.Tensor | np.ndarray):
            raise UsageError(
                f"example input {number} is a {type(each).__name__}; give tensors or arrays"
            )
    return [
        each.detach().cpu().numpy() if isinstance(each, torch.Tensor) else each for each in given
    ]


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
        As for :func:`load`.

    Raises
    ------
    UsageError
        It is nothing of these.
    ModelError
        As for :func:`load`, :func:`of_module` and :func:`of_program`.
    """
    if isinstance(model, Network):
        return model
    if isinstance(model, str):
        shapes = input_shapes or [each.shape for each in examples or ()]
        dtypes = input_dtypes or [str(each.dtype) for each in examples or ()]
        return load(
            model,
            input_shapes=shapes,
            input_dtypes=dtypes,
            weights=weights,
            width=width,
            resolution=resolution,
        )
    if isinstance(model, torch.export.ExportedProgram):
        return of_program(model, name or "program")
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"the model is a {type(model).__name__}; give a torch.nn.Module with example inputs, "
            "an ExportedProgram, or the name of a model"
        )
    specs = [TensorSpec(each.shape, str(each.dtype)) for each in examples or ()]
    return of_module(model, specs, input_shapes, input_dtypes, weights, name)


@contextmanager
def inference_mode(network: Network) -> Iterator[None]:
    """Put a module that is in training mode in inference mode for a while."""
    module = network.module
    if not isinstance(module, nn.Module) or not module.training:
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

"""Trace a PyTorch module with torch.export and import it to Relax."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field

import numpy as np
import torch
import tvm
from torch import nn
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

from tvm_eff.errors import ModelError


@dataclass(frozen=True)
class Imported:
    """A network in Relax, with its parameters beside it.

    Attributes
    ----------
    mod
        A module whose ``main`` takes the inputs, then the parameters.
    params
        The parameters, in the order ``main`` takes them.
    inputs
        The names of the inputs.
    """

    mod: tvm.IRModule = field(repr=False)
    params: list[np.ndarray] = field(repr=False)
    inputs: tuple[str, ...]


def import_model(model: nn.Module, inputs: Sequence[torch.Tensor]) -> Imported:
    """Trace `model` on example inputs and import it.

    Parameters
    ----------
    model
        A module in inference mode.
    inputs
        Example inputs; their shapes become the network's.

    Raises
    ------
    ModelError
        The model rejects the inputs, cannot be traced, or uses an operator that
        cannot be imported.
    """
    with _quiet():
        return _import(model, tuple(inputs))


def _import(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Imported:
    try:
        exported = torch.export.export(model, inputs)
    except Exception as error:  # torch.export raises whatever the model raises
        raise ModelError(f"the model cannot be traced: {_first_line(error)}") from error
    try:
        mod = from_exported_program(
            exported, keep_params_as_input=True, unwrap_unit_return_tuple=True
        )
    except Exception as error:  # TVM raises assertions and its own types
        raise ModelError(f"the model cannot be imported to Relax: {_first_line(error)}") from error
    mod, params = relax.frontend.detach_params(mod)
    count = int(mod["main"].attrs["num_input"])
    return Imported(
        mod=mod,
        params=[param.numpy() for param in params["main"]],
        inputs=tuple(str(v.name) for v in mod["main"].params[:count]),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what torch.export says besides raising: deprecations, logs, listings."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(disabled)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

"""Trace a network with torch.export, and name its inputs and outputs."""

from __future__ import annotations

import io
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export.graph_signature import OutputKind, TensorArgument
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from tvm_eff.errors import ModelError
from tvm_eff.models.double_precision import run_in_double_precision
from tvm_eff.models.network import Network
from tvm_eff.models.side_effects import SideEffects, named, side_effects, unchanged
from tvm_eff.tensors import random_inputs, relative_error

_TORCH = Path(torch.__file__).parent
_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]

_ROUNDED_RUNS = 8
"""How often a network is run that rounds by chance: a value near a limit falls to either side."""


@dataclass(frozen=True)
class Program:
    """A traced network.

    Attributes
    ----------
    network
        The traced network.
    exported
        Its exported graph.
    inputs, outputs
        The names of its inputs and outputs, in order. An input has its name in the
        module's ``forward``; an output its key in a dictionary, or otherwise ``output``,
        or ``output0``, ``output1``...
    written
        Buffers that a call writes, as far as a call showed it.
    """

    network: Network
    exported: torch.export.ExportedProgram = field(repr=False)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    written: tuple[str, ...] = ()

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return PyTorch's outputs, in order.

        Raises
        ------
        ModelError
            An output contains NaN, so that nothing could be compared with it.
        """
        tensors = [torch.from_numpy(x.copy()) for x in inputs]
        with torch.no_grad():
            result = self._called(tensors)
        outputs = [leaf.detach().numpy() for leaf in pytree.tree_leaves(result)]
        for name, output in zip(self.outputs, outputs, strict=True):
            if output.dtype.kind == "f" and np.isnan(output).any():
                raise ModelError(
                    f"PyTorch's own output '{name}' of {self.network.name} is NaN, so no "
                    "library could be checked against it; look at its weights and inputs"
                )
        return outputs

    def _called(self, tensors: list[torch.Tensor]) -> Any:
        module = self.network.module
        if isinstance(module, nn.Module):
            return module(*tensors)
        # A saved program may take keywords and nested structures; `tensors` is their flat list.
        args, kwargs = pytree.tree_unflatten(tensors, module.call_spec.in_spec)
        # To make a module of a program takes longer than a small network; one that writes its
        # buffers starts from the same ones each time.
        written = module.graph_signature.buffers_to_mutate
        return (module.module() if written else self._unlifted)(*args, **kwargs)

    @cached_property
    def _unlifted(self) -> nn.Module:
        return self.exported.module()

    def run_in_double_precision(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Return the outputs in double precision; None if an operator does not compute in it."""
        return run_in_double_precision(self.exported, inputs)

    def moved_by_chance(
        self, inputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]
    ) -> tuple[float, ...]:
        """Return how far rounding by chance moves each output, as a fraction of its spread.

        That is from the exact result: what PyTorch is off by is another error.

        Parameters
        ----------
        inputs
            The network's inputs.
        expected
            PyTorch's outputs for them.

        Returns
        -------
        tuple of float
            The largest of several runs; 0 for integers, and for all outputs if an operator does not
            compute in double precision.
        """
        moved = np.zeros(len(expected))
        exact = self.run_in_double_precision(inputs)
        if exact is None:
            return tuple(moved)
        for found in self._rounded_by_chance(inputs):
            errors = [
                relative_error(a, b) if b.dtype.kind == "f" else 0.0
                for a, b in zip(found, exact, strict=True)
            ]
            moved = np.maximum(moved, errors)
        return tuple(map(float, moved))

    def moved_by_rounding(
        self, inputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]
    ) -> list[np.ndarray] | None:
        """Return which values of each output rounding decides, as it does of two that are equal.

        Parameters
        ----------
        inputs
            The network's inputs.
        expected
            PyTorch's outputs for them.

        Returns
        -------
        list of numpy.ndarray or None
            Where an output differs from the one expected if all operators round by chance; None
            if an operator does not compute in double precision.
        """
        runs = list(self._rounded_by_chance(inputs))
        if not runs:
            return None
        moved = [np.zeros(each.shape, bool) for each in expected]
        for found in runs:
            for each, output, wanted in zip(moved, found, expected, strict=True):
                each |= output != wanted
        return moved

    def _rounded_by_chance(self, inputs: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """The outputs in double precision if all operators round by chance, several times over."""
        noise = torch.Generator().manual_seed(0)
        for _ in range(_ROUNDED_RUNS):
            found = run_in_double_precision(self.exported, inputs, noise)
            if found is None:
                return
            yield found


def trace(network: Network) -> Program:
    """Trace `network` on random inputs of its specification.

    Raises
    ------
    ModelError
        The network is in training mode, rejects the inputs, cannot be traced, or
        returns something other than tensors.
    """
    module = network.module
    if isinstance(module, nn.Module):
        _require_inference_mode(network.name, module)
    if isinstance(module, torch.export.ExportedProgram):
        exported, seen = module, None
    else:
        with unchanged(module):
            exported, seen = _export(network, module)
    written = () if seen is None else seen.buffers
    names = _input_names(exported), _output_names(network, exported)
    return Program(network, exported, *names, written)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings, logs and stderr output of torch.export, but not its errors."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(disabled)


def first_line(error: BaseException) -> str:
    """Return the first non-empty line of an error message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def location_of(error: BaseException) -> str:
    """Return the location in user code that raised, as `` (net.py:12, in forward)``."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_ours(Path(frame.filename))
    ]
    if not frames:
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})"


def _require_inference_mode(name: str, module: nn.Module) -> None:
    for path, each in module.named_modules():
        if each.training and isinstance(each, (_BatchNorm, _DropoutNd)):
            raise ModelError(
                f"{name} is in training mode, in which its '{path}' ({type(each).__name__}) does "
                "something else than in use; call .eval() on it first"
            )


def _is_ours(path: Path) -> bool:
    """Whether a file is not user code: generated, torch's, importlib's, or of this package."""
    if not path.is_file() or _TORCH in path.parents:
        return True
    return path.parent == Path(__file__).parent or "importlib" in path.parts


def _export(
    network: Network, module: nn.Module
) -> tuple[torch.export.ExportedProgram, SideEffects]:
    """Return the traced module, and what calling it changed."""
    example = [torch.from_numpy(x) for x in random_inputs(network.inputs)]
    try:
        seen = side_effects(module, lambda: module(*[each.clone() for each in example]))
    except Exception as error:  # whatever the user's code raises
        shapes = " and ".join(_described(spec.shape, spec.dtype) for spec in network.inputs)
        raise ModelError(
            f"the model cannot be traced: {network.name} rejects an input of "
            f"{shapes or 'no tensor'}: {first_line(error)}{location_of(error)}"
        ) from error
    if seen.differs and not seen.buffers:
        kept = f": it sets {named(seen.attributes)}" if seen.attributes else ""
        raise ModelError(
            f"the model cannot be traced: {network.name} returns something else when it is called "
            f"again with the same input{kept}; register what it keeps as a buffer and use --state "
            "(state=True in Python), or have forward take it as an input and return it"
        )
    try:
        with quiet(), _DetachedData():
            return torch.export.export(module, tuple(example)), seen
    except GuardOnDataDependentSymNode as error:
        raise ModelError(
            f"the model cannot be traced: what {network.name} does depends on the values of its "
            f"input{location_of(error)}, and a library does the same for all; compute both and "
            "choose with torch.where"
        ) from error
    except Exception as error:
        raise ModelError(
            f"the model cannot be traced: {first_line(error)}{location_of(error)}"
        ) from error


class _DetachedData(TorchFunctionMode):
    """Reads ``x.data`` as ``x.detach()``: torch.export takes it for a constant without a value."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func == _DATA:
            return args[0].detach()
        return func(*args, **(kwargs or {}))


def _described(shape: Sequence[int], dtype: str) -> str:
    return f"{' x '.join(map(str, shape)) or 'one'} {dtype}"


def _input_names(exported: torch.export.ExportedProgram) -> tuple[str, ...]:
    return tuple(
        str(name) for name in exported.graph_signature.user_inputs if isinstance(name, str)
    )


def _output_names(network: Network, exported: torch.export.ExportedProgram) -> tuple[str, ...]:
    specs = [
        spec
        for spec in exported.graph_signature.output_specs
        if spec.kind in (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT)
    ]
    structure = pytree.tree_unflatten(list(range(len(specs))), exported.call_spec.out_spec)
    paths, _ = pytree.tree_flatten_with_path(structure)
    if network.state:
        # What the module returns, and a list of states.
        inner = [path[1:] for path, _ in paths[: len(paths) - len(network.state)]]
        found = (*map(_output_name, inner), *network.state)
    else:
        found = tuple(_output_name(path) for path, _ in paths)
    for name, spec in zip(found, specs, strict=True):
        if not isinstance(spec.arg, TensorArgument):
            value = getattr(spec.arg, "value", spec.arg)
            raise ModelError(
                f"the output '{name}' of {network.name} is {value!r}, not a tensor; "
                "have forward return tensors only"
            )
    if not found:
        raise ModelError(f"{network.name} returns nothing; have forward return a tensor")
    return found


def _output_name(path: Sequence[Any]) -> str:
    parts = [str(_key(entry)) for entry in path]
    if not parts:
        return "output"
    return ".".join(parts) if not parts[0].isdigit() else "output" + ".".join(parts)


def _key(entry: Any) -> Any:
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return entry

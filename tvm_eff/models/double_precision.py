"""A network in double precision: what PyTorch's own result is judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import ExportGraphSignature, InputKind, OutputKind
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_ROUNDOFF = 2.0**-24
_ROUNDINGS = 8
"""How many roundings in one direction an operator's result may be off by: those of long sums."""


def run_in_double_precision(
    exported: torch.export.ExportedProgram,
    inputs: Sequence[np.ndarray],
    noise: torch.Generator | None = None,
) -> list[np.ndarray] | None:
    """Return the outputs in order; None if an operator does not compute in double precision.

    Parameters
    ----------
    exported
        A program in float32.
    inputs
        Its inputs in order, in the dtypes it takes.
    noise
        If given, the result of each operator, and of those it is made of, is off by a few
        roundings to float32, by chance, where it would be rounded at all (Monte Carlo
        arithmetic: Parker, IEEE CiSE 2(4), 2000).
    """
    given = iter(inputs)
    arguments = []
    for spec in exported.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            # A copy: an operator may write in place.
            arguments.append(_wide(torch.from_numpy(next(given).copy())))
            continue
        assert spec.target is not None, "everything else is kept by its name"
        held = exported.state_dict.get(spec.target)
        held = exported.constants.get(spec.target) if held is None else held
        arguments.append(_wide(held.clone()) if isinstance(held, torch.Tensor) else held)
    try:
        with torch.no_grad(), _double_by_default():
            results = _WideInterpreter(exported.graph_module, noise).run(*arguments)
    except Exception:  # whatever operators raise
        return None
    return _outputs(exported.graph_signature, results)


@contextmanager
def _double_by_default() -> Iterator[None]:
    """Integers that are divided become float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _WideInterpreter(torch.fx.Interpreter):
    """Runs each operator with float64 in the place of float32."""

    def __init__(self, module: torch.fx.GraphModule, noise: torch.Generator | None) -> None:
        super().__init__(module)
        self._noise = noise

    def run_node(self, n: torch.fx.Node) -> Any:
        if n.target == torch.ops.aten.view.dtype:
            raise TypeError("bits of another dtype are other values")
        if n.op == "call_function" and self._noise is not None:
            return self._run_by_chance(n, self._noise)
        if n.op != "get_attr":
            return super().run_node(n)
        return pytree.tree_map_only(torch.Tensor, _wide, super().run_node(n))

    def _run_by_chance(self, n: torch.fx.Node, noise: torch.Generator) -> Any:
        if not isinstance(n.target, torch._ops.OpOverload):
            # PyTorch runs a loop of graphs without what looks at its operators.
            result = super().run_node(n)
            pytree.tree_map_only(torch.Tensor, partial(_disturb, noise), result)
            return result
        with _RoundingByChance(noise):
            return super().run_node(n)

    def fetch_args_kwargs_from_env(
        self, n: torch.fx.Node
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return pytree.tree_map_only(torch.dtype, _wide_dtype, (args, kwargs))


class _RoundingByChance(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Disturbs what each kernel computes, also those that an operator such as an LSTM calls."""

    def __init__(self, noise: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._noise = noise

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple) else (result,)
        for each, returned in zip(results, func._schema.returns, strict=False):
            alias = returned.alias_info
            if alias is None or alias.is_write:
                pytree.tree_map_only(torch.Tensor, partial(_disturb, self._noise), each)
        return result


def _disturb(noise: torch.Generator, result: torch.Tensor) -> None:
    """Round it by chance, in its memory: what looks at it is to see the same."""
    if result.dtype != torch.float64 or any(step == 0 for step in result.stride()):
        return
    chance = torch.rand(result.shape, generator=noise, dtype=torch.float64) * 2 - 1
    # What float32 holds exactly, such as whole numbers, is not rounded.
    chance *= result != result.float()
    result *= 1 + _ROUNDINGS * _ROUNDOFF * chance


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().double() if tensor.dtype == torch.float32 else tensor.detach()


def _wide_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float32 else dtype


def _outputs(signature: ExportGraphSignature, results: Sequence[Any]) -> list[np.ndarray]:
    kept = (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT)
    return [
        each.detach().numpy()
        for each, spec in zip(results, signature.output_specs, strict=True)
        if spec.kind in kept
    ]

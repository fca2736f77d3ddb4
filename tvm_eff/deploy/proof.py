"""Is each operator imported right? Asked before anything is tuned.

Every operator of the network is compiled alone, as it was imported, and fed with what PyTorch
feeds it at its place in the network; its result must be PyTorch's. What differs is therefore one
operator with a module and a line, not an output. What comes behind, our own passes and schedules,
is for the tuner's checks and for :mod:`tvm_eff.deploy.validate`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from torch.utils import _pytree as pytree

from tvm_eff import failures, frontend, paths
from tvm_eff.deploy import operator_work
from tvm_eff.deploy.accuracy import MORE_THAN_PYTORCH
from tvm_eff.deploy.operator_kernels import OperatorKernels, load_kernels, own_code
from tvm_eff.errors import ModelError
from tvm_eff.frontend import SingleOperator, constants
from tvm_eff.models import Program
from tvm_eff.tensors import TOLERANCE, relative_error

_FOLDER = "proof"
_MOST_PROVED = 1000
"""How many networks are remembered to have been right."""

Core = torch.export.ExportedProgram


def prove(program: Program, core: Core, cases: Mapping[str, Sequence[np.ndarray]]) -> int:
    """Compare each operator as imported with PyTorch's, at its place in the network.

    What was found right before, with the same operators, weights and inputs, is not run again.

    Parameters
    ----------
    program
        The network.
    core
        It, decomposed by :func:`tvm_eff.frontend.decompose`.
    cases
        Inputs to try, by what messages call them. Those that PyTorch rejects are left out.

    Returns
    -------
    int
        How many operators there are.

    Raises
    ------
    ModelError
        An operator's result differs, or it cannot be compiled or run; the message names it
        with its module and line.
    """
    operators = list(frontend.single_operators(core))
    folder = paths.cache_folder() / _FOLDER
    folder.mkdir(exist_ok=True)
    proved = folder / f"{_digest(operators, core, cases)}.proved"
    if proved.exists():
        return len(operators)
    kernels = load_kernels(operators, folder)
    tried = 0
    for name, inputs in cases.items():
        prover = _Prover(core.graph_module, operators, kernels, name)
        tried += prover.prove(constants.arguments(core, inputs))
    if not tried:
        raise ModelError(
            f"{program.network.name} rejects all inputs that its import is checked on: "
            f"{', '.join(cases)}; give inputs of your own to tvm_eff.compile"
        )
    proved.touch()
    _forget_oldest(folder)
    return len(operators)


class _RejectedError(Exception):
    """PyTorch does not take the input."""


class _Prover(torch.fx.Interpreter):
    """Runs the network in PyTorch, and each operator as imported beside it."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        operators: Sequence[SingleOperator],
        kernels: OperatorKernels,
        case: str,
    ) -> None:
        super().__init__(module)
        # What is raised here is a message for users.
        self.extra_traceback = False
        self._operators = {each.node.name: each for each in operators}
        self._kernels, self._case = kernels, case

    def prove(self, arguments: Sequence[torch.Tensor]) -> bool:
        """Return whether PyTorch takes the input; what is wrong is raised."""
        try:
            with torch.no_grad():
                self.run(*arguments)
        except _RejectedError:
            return False
        return True

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call an operator of PyTorch's.

        A decomposed operator's result may have other strides than the traced one had, for which
        a reshape was a view.
        """
        views = target is torch.ops.aten.view.default
        return super().call_function(
            torch.ops.aten.reshape.default if views else target, args, kwargs
        )

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run an operator in PyTorch and compare."""
        try:
            result = super().run_node(n)
        except Exception as error:  # whatever operators raise
            raise _RejectedError from error
        if n.name in self._operators:
            self._compare(self._operators[n.name], result)
        return result

    def _compare(self, operator: SingleOperator, result: Any) -> None:
        node = operator.node
        # The interpreter has the nodes of a copy of the graph, by the same names.
        own = {each.name: value for each, value in self.env.items()}
        inputs = [own[each.name] for each in node.all_input_nodes]
        arrays = [each.detach().contiguous().numpy() for each in inputs]
        try:
            found = self._kernels.run(operator.key, arrays)
        except Exception as error:  # TVM raises its own types, all of them below Exception
            raise ModelError(
                f"the import of {frontend.described(node)} cannot be run on {self._case}; "
                f"{failures.advice(error)}"
            ) from error
        used = _used_results(node, result)
        for number, expected in used.items():
            wanted = expected.detach().numpy()
            if _agrees(found[number], wanted):
                continue
            exact = _exact(node, own, number)
            if exact is None or not _is_near(
                found[number], wanted, exact, operator_work.rounding(operator)
            ):
                raise ModelError(
                    f"the import of {frontend.described(node)} is wrong on {self._case}: "
                    f"{_difference(found[number], wanted)}; write it with another operator and "
                    "report it with the model (--no-proof goes on nevertheless)"
                )


def _used_results(node: torch.fx.Node, result: Any) -> dict[int, torch.Tensor]:
    """The results that somebody uses, by their places in the operator's tuple."""
    if isinstance(result, torch.Tensor):
        return {0: result}
    taken = {int(user.args[1]) for user in node.users if _takes_element(user)}  # type: ignore[arg-type]
    return {place: each for place, each in enumerate(result) if place in taken}


def _takes_element(node: torch.fx.Node) -> bool:
    return getattr(node.target, "__name__", "") == "getitem"


def _agrees(found: np.ndarray, wanted: np.ndarray) -> bool:
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return False
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(found, wanted))
    return relative_error(found, wanted) <= TOLERANCE


def _exact(node: torch.fx.Node, own: Mapping[str, Any], number: int) -> np.ndarray | None:
    """The operator's result in double precision; None if it does not compute in it."""

    def wide(each: torch.fx.Node) -> Any:
        value = own[each.name]
        return value.double() if value.dtype == torch.float32 else value

    arguments = torch.fx.map_arg((node.args, node.kwargs), wide)
    target: Any = node.target
    try:
        result = target(*arguments[0], **arguments[1])
    except Exception:  # whatever operators raise
        return None
    found = result if isinstance(result, torch.Tensor) else result[number]
    return found.numpy() if found.dtype == torch.float64 else None


def _is_near(found: np.ndarray, wanted: np.ndarray, exact: np.ndarray, rounding: float) -> bool:
    """Whether it is as near to the exact result as PyTorch is, or hardly less."""
    if found.dtype != wanted.dtype or found.shape != exact.shape:
        return False
    finite = np.isfinite(wanted)
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True):
        return False
    ours, theirs, exact = (each[finite].astype("float64") for each in (found, wanted, exact))
    if not ours.size:
        return True
    allowed = MORE_THAN_PYTORCH * float(np.abs(theirs - exact).max())
    allowed = max(allowed, TOLERANCE * float(np.ptp(exact)), rounding * float(np.abs(exact).max()))
    return bool(np.abs(ours - exact).max() <= allowed)


def _difference(found: np.ndarray, wanted: np.ndarray) -> str:
    if found.dtype != wanted.dtype:
        return f"its dtype is {found.dtype} instead of {wanted.dtype}"
    if found.shape != wanted.shape:
        return f"its shape is {found.shape} instead of {wanted.shape}"
    ours, theirs = found.astype("float64"), wanted.astype("float64")
    with np.errstate(all="ignore"):
        off = np.where(ours == theirs, 0, np.abs(ours - theirs))
    off = np.where(np.isnan(off), np.inf, off)
    place = np.unravel_index(int(off.argmax()), off.shape)
    at = ", ".join(map(str, map(int, place)))
    count = int(np.count_nonzero(off))
    return (
        f"at [{at}] it is {found[place]:.7g} instead of {wanted[place]:.7g}, "
        f"and {count} of {found.size} values differ"
    )


def _forget_oldest(folder: Path) -> None:
    kept = sorted(folder.glob("*.proved"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[_MOST_PROVED:]:
        path.unlink(missing_ok=True)


def _digest(
    operators: Sequence[SingleOperator], core: Core, cases: Mapping[str, Sequence[np.ndarray]]
) -> str:
    """What the outcome depends on: the code, the weights, and what is fed."""
    found = hashlib.sha256()
    for word in (torch.__version__, tvm.__version__, own_code()):
        found.update(word.encode())
    for each in operators:
        found.update(f"{each.node.format_node()} {each.key}".encode())
    for value in pytree.tree_leaves((core.state_dict, core.constants)):
        if isinstance(value, torch.Tensor):
            found.update(value.detach().contiguous().numpy().tobytes())
    for name, inputs in cases.items():
        found.update(name.encode())
        for array in inputs:
            found.update(array.tobytes())
    return found.hexdigest()[:40]

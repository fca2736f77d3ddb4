"""Is each operator imported right? Asked before anything is tuned.

Every operator of the network is compiled alone, as it was imported, and fed with what PyTorch
feeds it at its place in the network; its result must be PyTorch's. What differs is therefore one
operator with a module and a line, not an output. What comes behind, our own passes and schedules,
is for the tuner's checks and for :mod:`tvm_eff.deploy.validate`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from torch.utils import _pytree as pytree
from tvm import relax

from tvm_eff import failures, frontend, passes, paths, targets
from tvm_eff.codegen import build_module
from tvm_eff.deploy import operator_work
from tvm_eff.deploy.accuracy import MORE_THAN_PYTORCH
from tvm_eff.deploy.unscheduled import quicken
from tvm_eff.device import Device, LocalDevice
from tvm_eff.errors import BuildError, ExecutionError, ModelError
from tvm_eff.frontend import SingleOperator, constants
from tvm_eff.frontend.arithmetic import dtype_of
from tvm_eff.models import Program
from tvm_eff.passes import pipeline
from tvm_eff.passes.relax.legalize import legalize_operators
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target
from tvm_eff.tensors import TOLERANCE, relative_error

_FOLDER = "proof"
_MOST_LIBRARIES = 64
"""How many libraries of operators are kept, the latest ones: one holds those of a network."""

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
    host = operator_work.host_for(operators)
    folder = paths.cache_folder() / _FOLDER
    proved = folder / f"{_digest(operators, core, cases)}.proved"
    if proved.exists():
        return len(operators)
    library = _library(operators, host)
    _require_running(operators, library)
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    tried = 0
    for name, inputs in cases.items():
        prover = _Prover(core.graph_module, operators, machine, name)
        tried += prover.prove(constants.arguments(core, inputs))
    if not tried:
        raise ModelError(
            f"{program.network.name} rejects all inputs that its import is checked on: "
            f"{', '.join(cases)}; give inputs of your own to tvm_eff.compile"
        )
    proved.touch()
    return len(operators)


class _RejectedError(Exception):
    """PyTorch does not take the input."""


class _Prover(torch.fx.Interpreter):
    """Runs the network in PyTorch, and each operator as imported beside it."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        operators: Sequence[SingleOperator],
        machine: relax.VirtualMachine,
        case: str,
    ) -> None:
        super().__init__(module)
        # What is raised here is a message for users.
        self.extra_traceback = False
        self._operators = {each.node.name: each for each in operators}
        self._machine, self._case = machine, case

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
            found = _results(self._machine, operator.key, arrays)
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


def _results(
    machine: relax.VirtualMachine, key: str, arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    found = machine[key](*map(tvm.runtime.tensor, arrays))
    return [each.numpy() for each in ([found] if hasattr(found, "numpy") else found)]


def _require_running(operators: Sequence[SingleOperator], library: Path) -> None:
    """Run each kernel once in another process, where one that crashes does no harm."""
    alone = list({each.key: each for each in operators}.values())
    with LocalDevice() as device:
        for each in alone:
            try:
                device.run(library, _ones(each), function=each.key, keep=True)
            except ExecutionError as error:
                cause = _that_fails([each, *alone], device)
                raise ModelError(
                    f"the import of {frontend.described(cause.node)} cannot be run; write it with "
                    f"another operator; {failures.advice(error)}"
                ) from error


def _that_fails(operators: Sequence[SingleOperator], device: Device) -> SingleOperator:
    """The operator because of which a library fails: if one cannot be loaded, all are refused."""
    host = targets.load("host")
    with scratch_folder() as folder:
        for number, each in enumerate(operators):
            library = folder / f"{number}.so"
            _build([each], host, library)
            try:
                device.run(library, _ones(each), function=each.key)
            except ExecutionError:
                return each
    return operators[0]


def _ones(operator: SingleOperator) -> list[np.ndarray]:
    values = [each.meta["val"] for each in operator.node.all_input_nodes]
    return [np.ones(value.shape, dtype_of(value.dtype)) for value in values]


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


def _library(operators: Sequence[SingleOperator], host: Target) -> Path:
    """One library with all operators; it is kept for networks with the same ones."""
    alone = {each.key: each for each in operators}
    words = [*sorted(alone), tvm.__version__, _own_code(), str(host.tvm_target())]
    folder = paths.cache_folder() / _FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{hashlib.sha256(' '.join(words).encode()).hexdigest()[:32]}.so"
    if not path.exists():
        _drop_old(folder)
        # Two processes that need the same one make it twice; neither sees half of it.
        part = path.with_suffix(f".{os.getpid()}.so")
        _build(list(alone.values()), host, part)
        part.replace(path)
    path.touch()
    return path


def _build(operators: Sequence[SingleOperator], host: Target, path: Path) -> None:
    try:
        with pipeline.not_dumping():
            build_module(_joined(operators), host, path)
    except BuildError as error:
        if len(operators) == 1:
            cause = frontend.described(operators[0].node)
            raise ModelError(
                f"the import of {cause} cannot be compiled; write it with another operator: {error}"
            ) from error
        for each in operators:
            _build([each], host, path)
        raise


def _joined(operators: Sequence[SingleOperator]) -> tvm.IRModule:
    functions = {
        tvm.ir.GlobalVar(each.key): each.mod["main"].with_attr("global_symbol", each.key)
        for each in operators
    }
    mod = legalize_operators()(tvm.IRModule(functions))
    quicken(mod)
    return mod


def _drop_old(folder: Path) -> None:
    for pattern, most in (("*.so", _MOST_LIBRARIES), ("*.proved", _MOST_PROVED)):
        kept = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[most - 1 :]:
            path.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _own_code() -> str:
    """What of ours makes the code of an operator as imported, and judges it."""
    files = [Path(__file__), *sorted(Path(passes.__file__).parent.rglob("*.py"))]
    return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()


def _digest(
    operators: Sequence[SingleOperator], core: Core, cases: Mapping[str, Sequence[np.ndarray]]
) -> str:
    """What the outcome depends on: the code, the weights, and what is fed."""
    found = hashlib.sha256()
    for word in (torch.__version__, tvm.__version__, _own_code()):
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

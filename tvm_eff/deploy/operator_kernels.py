"""Operators compiled alone, as they were imported, and kept by what they compute.

Networks share operators: a kernel is compiled for the first network that has it, together with
what else of that network is new, and is run once in another process before it is kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

from tvm_eff import failures, frontend, passes, paths, targets
from tvm_eff.codegen import build_module
from tvm_eff.deploy import operator_work
from tvm_eff.deploy.unscheduled import quicken
from tvm_eff.device import Device, LocalDevice
from tvm_eff.errors import BuildError, ExecutionError, ModelError
from tvm_eff.frontend import SingleOperator
from tvm_eff.frontend.arithmetic import dtype_of
from tvm_eff.passes import pipeline
from tvm_eff.passes.relax.legalize import legalize_operators
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target

_KEYS = ".keys"
"""Beside a library, the kernels in it: a line each."""

_OWN_FILES = ("operator_kernels.py", "operator_work.py", "proof.py", "unscheduled.py")

_MOST_LIBRARIES = 256
"""How many libraries are kept, those used last."""


class OperatorKernels:
    """Runs operators by their keys.

    Parameters
    ----------
    libraries
        The library that holds a key's kernel, by keys.
    """

    def __init__(self, libraries: Mapping[str, Path]) -> None:
        machines = {
            path: relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
            for path in set(libraries.values())
        }
        self._machines = {key: machines[path] for key, path in libraries.items()}

    def run(self, key: str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return an operator's results."""
        found = self._machines[key][key](*map(tvm.runtime.tensor, arrays))
        return [each.numpy() for each in ([found] if hasattr(found, "numpy") else found)]


def load_kernels(operators: Sequence[SingleOperator], folder: Path) -> OperatorKernels:
    """Return the kernels of some operators; those that `folder` does not have are compiled.

    Raises
    ------
    ModelError
        An operator cannot be compiled or run; the message names it with its module and line.
    """
    host = operator_work.host_for(operators)
    context = _context(host)
    alone = {each.key: each for each in operators}
    libraries = _kept(folder, context, alone)
    new = [each for key, each in alone.items() if key not in libraries]
    if new:
        made = _compile(new, host, folder, context)
        libraries.update({each.key: made for each in new})
        _drop_old(folder)
    return OperatorKernels(libraries)


def _kept(folder: Path, context: str, wanted: Mapping[str, SingleOperator]) -> dict[str, Path]:
    """The libraries that hold wanted kernels, by keys; they become the ones used last."""
    found: dict[str, Path] = {}
    for listed in sorted(folder.glob(f"{context}-*{_KEYS}")):
        library = listed.with_suffix(".so")
        keys = wanted.keys() & set(listed.read_text().split()) - found.keys()
        if keys and library.exists():
            library.touch()
            found.update(dict.fromkeys(keys, library))
    return found


def _compile(operators: Sequence[SingleOperator], host: Target, folder: Path, context: str) -> Path:
    """Compile kernels into a new library, run each once, and keep it."""
    keys = sorted(each.key for each in operators)
    name = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:24]
    library = folder / f"{context}-{name}.so"
    # Two processes that need the same one make it twice; neither sees half of it.
    part = library.with_suffix(f".{os.getpid()}.so")
    try:
        _build(operators, host, part)
        _require_running(operators, part)
        part.replace(library)
    finally:
        part.unlink(missing_ok=True)
    paths.write_atomic(library.with_suffix(_KEYS), "\n".join(keys).encode())
    return library


def _drop_old(folder: Path) -> None:
    kept = sorted(folder.glob("*.so"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[_MOST_LIBRARIES:]:
        path.with_suffix(_KEYS).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _context(host: Target) -> str:
    """What a kernel depends on beside its operator."""
    words = f"{tvm.__version__} {own_code()} {host.tvm_target()}"
    return hashlib.sha256(words.encode()).hexdigest()[:12]


@lru_cache(maxsize=1)
def own_code() -> str:
    """Return a digest of what of ours makes the code of an operator as imported, and judges it."""
    here = [Path(__file__).with_name(name) for name in _OWN_FILES]
    files = [*here, *sorted(Path(passes.__file__).parent.rglob("*.py"))]
    return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()


def _build(operators: Sequence[SingleOperator], host: Target, path: Path) -> None:
    try:
        with pipeline.not_dumping():
            build_module(_joined(operators), host, path, names_libc=False)
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


def _require_running(operators: Sequence[SingleOperator], library: Path) -> None:
    """Run each kernel once in another process, where one that crashes does no harm."""
    with LocalDevice() as device:
        for each in operators:
            try:
                device.run(library, _ones(each), function=each.key, keep=True)
            except ExecutionError as error:
                cause = _that_fails([each, *operators], device)
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

"""The program that a library carries: which kernels it calls, in what order, with what constants.

The virtual machine's code and its constants are the same for every processor. So they are
taken out of the file and run here whatever the kernels are compiled for, none of which is
loaded: each call of one is handed to Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax
from tvm.runtime.vm import VMInstrumentReturnKind

from tvm_eff.errors import BundleError

_KIND = b"relax.VMExecutable"
_MARK = len(_KIND).to_bytes(8, "little") + _KIND
_LOADER = "ffi.Module.load_from_bytes.relax.VMExecutable"
_BUILTIN = "vm.builtin."
_CALL = re.compile(r"^\s*call\s+(\S+)\s+in:", re.MULTILINE)

Execute = Callable[[str, Any, Sequence[Any]], None]
"""Does the work of a kernel: its name, its function, its arguments with the outputs behind."""


def read_executable(library: Path) -> Any:
    """Return the program of a library, whatever processor the library is for.

    Raises
    ------
    BundleError
        The library carries none that this TVM reads.
    """
    content = library.read_bytes()
    # How TVM writes what a library imports: the kind's length and name, then the bytes' length.
    start = content.find(_MARK) + len(_MARK)
    size = int.from_bytes(content[start : start + 8], "little")
    if start < len(_MARK) or start + 8 + size > len(content):
        raise BundleError(f"{library} carries no program of TVM's; build the bundle again")
    try:
        return tvm_ffi.get_global_func(_LOADER)(content[start + 8 : start + 8 + size])
    except Exception as error:  # TVM raises its own types, all of them below Exception
        raise BundleError(
            f"the program in {library} cannot be read by TVM {tvm.__version__}: "
            f"{str(error).splitlines()[-1]}; build the bundle again"
        ) from error


def kernel_names(executable: Any) -> list[str]:
    """Return the names of the kernels that a program calls, in order."""
    called = _CALL.findall(relax.VMExecutable(executable).as_text())
    return [name for name in called if not name.startswith(_BUILTIN)]


def interpret(executable: Any, inputs: Sequence[np.ndarray], execute: Execute) -> list[np.ndarray]:
    """Run a program whose kernels are executed in Python, and return its outputs.

    Parameters
    ----------
    executable
        The program, with its kernels or without.
    inputs
        What ``main`` takes.
    execute
        Called for each kernel, in order; it fills the outputs.
    """
    raised: list[BaseException] = []

    def instrument(function: Any, name: str, before: bool, _: Any, *arguments: Any) -> int:
        if name.startswith(_BUILTIN):
            return int(VMInstrumentReturnKind.NO_OP)
        if before and not raised:
            # Through TVM's own frames an error would lose its type.
            try:
                execute(name, function, arguments)
            except BaseException as error:
                raised.append(error)
        return int(VMInstrumentReturnKind.SKIP_RUN)

    machine = relax.VirtualMachine(executable, tvm.cpu())
    machine.set_instrument(instrument)
    result = machine["main"](*map(tvm.runtime.tensor, inputs))
    if raised:
        raise raised[0]
    return [each.numpy() for each in ([result] if hasattr(result, "numpy") else result)]


@contextmanager
def without_kernels(executable: Any) -> Iterator[None]:
    """Have the virtual machine find a function for each kernel of a program that has none."""
    missing = [
        name
        for name in sorted(set(kernel_names(executable)))
        if tvm.get_global_func(name, allow_missing=True) is None
    ]
    for name in missing:
        tvm_ffi.register_global_func(name, _never_called)
    try:
        yield
    finally:
        for name in missing:
            tvm_ffi.registry.remove_global_func(name)


def _never_called(*_: Any) -> None:
    raise AssertionError("a kernel is executed in Python")

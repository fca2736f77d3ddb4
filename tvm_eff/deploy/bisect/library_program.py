"""What a library does, kernel by kernel, whatever processor it is for and whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tvm_eff.deploy.bisect import executable
from tvm_eff.deploy.bisect.executable import Execute
from tvm_eff.deploy.bundle import PLAN, Bundle
from tvm_eff.deploy.native import plan_file
from tvm_eff.deploy.native.plan import PlannedTensor
from tvm_eff.errors import BundleError


class LibraryProgram(Protocol):
    """The kernels that a library calls, none of which is loaded here.

    Attributes
    ----------
    kernels
        The names of those it calls, in order.
    """

    kernels: list[str]

    def walk(self, inputs: Sequence[np.ndarray], prepare: Execute, execute: Execute) -> None:
        """Have each call done by `execute`, in order, with the library's own constants.

        Those that make weights when the library is loaded are done by `prepare`, before.
        """


def program_of(bundle: Bundle) -> LibraryProgram:
    """Return what a bundle's library does.

    Raises
    ------
    BundleError
        The bundle does not say, or in no way that this tvm_eff and this TVM read.
    """
    return NativeProgram(bundle) if bundle.manifest.runtime == "native" else VMProgram(bundle)


class VMProgram:
    """The program that TVM's virtual machine runs."""

    def __init__(self, bundle: Bundle) -> None:
        self._executable = executable.read_executable(bundle.library)
        self.kernels = executable.kernel_names(self._executable)

    def walk(self, inputs: Sequence[np.ndarray], prepare: Execute, execute: Execute) -> None:
        """Run it, its kernels in Python."""
        with executable.without_kernels(self._executable):
            executable.interpret(self._executable, inputs, execute)


@dataclass(frozen=True)
class _Tensor:
    """An array that is used as TVM's tensors are."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def numpy(self) -> np.ndarray:
        return self.array.copy()

    def copyfrom(self, values: np.ndarray) -> None:
        self.array[...] = values


class NativeProgram:
    """The plan of a native library, and the weights in it."""

    def __init__(self, bundle: Bundle) -> None:
        if PLAN not in bundle.manifest.files:
            raise BundleError(
                f"{bundle.folder} has no {PLAN}, which says what the library does; build it again"
            )
        self._plan = plan_file.read(bundle.folder / PLAN)
        self._weights = plan_file.read_weights(bundle.library, self._plan)
        self._outputs = bundle.manifest.outputs
        self.kernels = [each.kernel for each in self._plan.calls[self._plan.at_load :]]

    def walk(self, inputs: Sequence[np.ndarray], prepare: Execute, execute: Execute) -> None:
        """Go through the plan; its arena is here."""
        arena = np.zeros(self._plan.arena_bytes, "uint8")
        outputs = [np.zeros(each.shape, each.dtype) for each in self._outputs]
        memories = {
            "input": [np.array(each) for each in inputs],
            "output": outputs,
            "constant": [np.array(each) for each in self._weights],
        }

        def tensor(planned: PlannedTensor) -> _Tensor:
            if planned.place == "arena":
                memory = arena[planned.number :]
            else:
                memory = memories[planned.place][planned.number].reshape(-1).view("uint8")
            bytes_ = int(np.prod(planned.shape, dtype=np.int64)) * np.dtype(planned.dtype).itemsize
            array = memory[:bytes_].view(planned.dtype).reshape(planned.shape)
            return _Tensor(array)

        tensors = [tensor(each) for each in self._plan.tensors]
        for number, call in enumerate(self._plan.calls):
            done = prepare if number < self._plan.at_load else execute
            done(call.kernel, None, [tensors[each] for each in call.tensors])

"""A library's kernels, one by one on a device, each fed with what it should be fed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff.deploy.bisect.difference import Difference, difference
from tvm_eff.deploy.bisect.packed import Constants
from tvm_eff.deploy.bisect.reference import KernelCall, fill
from tvm_eff.device import Device
from tvm_eff.errors import BundleError, ExecutionError
from tvm_eff.tensors import TOLERANCE, TensorSpec, kernel_tolerance

OTHER_BUILD = (
    "other passes or another target built it: bisect with the tvm_eff and the --target that did"
)


@dataclass(frozen=True)
class WrongCall:
    """A kernel that is wrong.

    Attributes
    ----------
    number
        Its place among the calls.
    kernel
        Its name in the library.
    inputs
        What it was called with.
    difference, failure
        How far its result is from the one expected, or why it has none.
    constants
        What those of its inputs should be that are constants; None if that is not known.
    altered
        How one of them differs.
    """

    number: int
    kernel: str
    inputs: list[np.ndarray]
    difference: Difference | None
    failure: str | None
    constants: Constants | None
    altered: Difference | None


class KernelWalk:
    """Runs each kernel on the device as the library calls it, until one is wrong."""

    def __init__(
        self,
        library: Path,
        calls: Sequence[KernelCall],
        constants: list[Constants] | None,
        device: Device,
    ) -> None:
        self._library, self._calls = library, calls
        self._constants, self._device = constants, device
        self.number = 0
        self.found: WrongCall | None = None

    def prepare(self, kernel: str, _: Any, arguments: Sequence[Any]) -> None:
        """Make a weight as the library does when it is loaded; it is compared where it is read."""
        *given, made = arguments
        spec = TensorSpec(tuple(made.shape), str(made.dtype))
        inputs = [each.numpy() for each in given]
        (output,), _ = self._device.call(self._library, kernel, inputs, [spec])
        made.copyfrom(output)

    def execute(self, kernel: str, _: Any, arguments: Sequence[Any]) -> None:
        """Compare one kernel, and hand on what it should have computed."""
        if self.found is not None:
            return
        self.skip_views(kernel)
        if self.number == len(self._calls):
            return
        call = self._calls[self.number]
        count = len(arguments) - len(call.outputs)
        self._require_alike(kernel, call, arguments[count:])
        inputs = [each.numpy() for each in arguments[:count]]
        self.found = self._wrong(kernel, call, inputs)
        self.number += 1
        fill(arguments[count:], call.outputs, call.written)

    def skip_views(self, kernel: str | None = None) -> None:
        """Skip reshapes that are no kernels of the library; all that are left without a kernel."""
        while self.number < len(self._calls):
            call = self._calls[self.number]
            if kernel is not None and is_of(kernel, call.task.name):
                return
            if not call.is_reshape:
                return
            self.number += 1

    def _wrong(self, kernel: str, call: KernelCall, inputs: list[np.ndarray]) -> WrongCall | None:
        constants = self._known_constants(inputs)
        altered = _first_altered(inputs, constants or {})
        found, failure = None, None
        specs = [TensorSpec(each.shape, str(each.dtype)) for each in call.outputs]
        try:
            outputs, _ = self._device.call(self._library, kernel, inputs, specs)
        except ExecutionError as error:
            failure = str(error)
        else:
            found = _first_difference(call, outputs)
        if found is None and failure is None and altered is None:
            return None
        return WrongCall(self.number, kernel, inputs, found, failure, constants, altered)

    def _known_constants(self, inputs: Sequence[np.ndarray]) -> Constants | None:
        if self._constants is None or self.number >= len(self._constants):
            return None
        found = self._constants[self.number]
        fits = all(n < len(inputs) and inputs[n].shape == found[n].shape for n in found)
        return found if fits else None

    def _require_alike(self, kernel: str, call: KernelCall, outputs: Sequence[Any]) -> None:
        found = [(tuple(each.shape), str(each.dtype)) for each in outputs]
        wanted = [(each.shape, str(each.dtype)) for each in call.outputs]
        if found != wanted:
            raise BundleError(
                f"kernel {self.number} of {self._library}, {kernel}, writes "
                f"{found[0][0]} where {call.task.name} writes {wanted[0][0]}; {OTHER_BUILD}"
            )


def _first_altered(inputs: Sequence[np.ndarray], constants: Constants) -> Difference | None:
    for number, expected in constants.items():
        everywhere = np.ones(expected.shape, bool)
        name = f"argument {number}"
        found = difference(inputs[number], expected, everywhere, TOLERANCE, name)
        if found is not None:
            return found
    return None


def _first_difference(call: KernelCall, outputs: Sequence[np.ndarray]) -> Difference | None:
    compared = zip(outputs, call.outputs, call.written, strict=True)
    for number, (found, expected, written) in enumerate(compared):
        differs = difference(found, expected, written, tolerance_of(call), f"output {number}")
        if differs is not None:
            return differs
    return None


def is_of(kernel: str, lowered: str) -> bool:
    """Whether a library's kernel has the name that it was lowered by, or one that begins so."""
    return kernel == lowered or kernel.startswith(f"{lowered}_")


def tolerance_of(call: KernelCall) -> float:
    """Return how far a kernel's outputs may be from what they should be."""
    return kernel_tolerance(str(each.dtype) for each in (*call.inputs, *call.outputs))

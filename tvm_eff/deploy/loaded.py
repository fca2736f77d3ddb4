"""A bundle's library in this process. Neither torch nor the tuner is imported."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.inputs import InputCheck
from tvm_eff.deploy.manifest import Manifest
from tvm_eff.deploy.validate import compare
from tvm_eff.errors import BundleError

Model = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]
"""Runs a network on arrays of the right shapes and dtypes."""


class LoadedBundle:
    """A network ready to run on this machine; made by :func:`tvm_eff.load`.

    Called with one numpy array an input, or a tensor of another library that lies in this
    machine's memory, it returns one array an output, as a tuple when there are several.
    Threads may share it: their calls take turns.

    What a call does in Python finds the caches full of the network's weights, and takes many
    times what it takes alone: so it does little (docs/tvm-0.27.md).
    """

    def __init__(
        self,
        library: Path,
        manifest: Manifest,
        golden_inputs: Sequence[np.ndarray],
        golden_outputs: Sequence[np.ndarray],
        *,
        refuse_nan: bool = False,
    ) -> None:
        self.manifest = manifest
        self._calling = threading.Lock()
        self._library = library
        self._golden_inputs, self._golden_outputs = golden_inputs, golden_outputs
        self._checks = [InputCheck(each, refuse_nan) for each in manifest.inputs]
        self._model = _model(library, manifest)

    def __call__(self, *inputs: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run the network.

        Raises
        ------
        BundleError
            The inputs are not what the network takes.
        """
        outputs = self._run(inputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def check(self) -> float:
        """Run the golden inputs and return the largest error against PyTorch's outputs.

        Raises
        ------
        ValidationError
            It is above the tolerance that the bundle was made with.
        """
        found = self.manifest.validation
        golden = Case(
            self._golden_inputs, self._golden_outputs, recorded_errors=found.reference_errors
        )
        return compare(
            self._run(self._golden_inputs),
            golden,
            found.tolerance,
            f"{self._library} on its golden inputs",
            classes=found.same_class is True,
        )

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self.manifest.inputs))
        outputs = ", ".join(map(str, self.manifest.outputs))
        return f"<{self.manifest.model} for {self.manifest.target.name}: {inputs} -> {outputs}>"

    def _run(self, inputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
        if len(inputs) != len(self._checks):
            raise BundleError(
                f"{self.manifest.model} takes {len(self._checks)} inputs, not {len(inputs)}: "
                + ", ".join(map(str, self.manifest.inputs))
            )
        # The library has one set of buffers, and so have the inputs.
        with self._calling:
            arrays = [each.array(given) for each, given in zip(self._checks, inputs, strict=True)]
            return self._model(arrays)


def _model(library: Path, manifest: Manifest) -> Model:
    if manifest.runtime == "native":
        from tvm_eff.deploy.native.model import NativeModel

        return NativeModel(library, manifest.inputs, manifest.outputs)
    from tvm_eff.deploy.virtual_machine import VirtualMachineModel

    return VirtualMachineModel(library, manifest)
